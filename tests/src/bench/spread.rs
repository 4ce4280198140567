//! What a handful of samples say.

/// Order statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the samples are below.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The lower and the upper quartile.
    pub quartiles: [f64; 2],
}

impl Spread {
    /// Of samples, of which there is at least one; all 0 if there is none.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |part: f64| quantile(&samples, part);
        Self { median: at(0.5), min: at(0.0), max: at(1.0), quartiles: [at(0.25), at(0.75)] }
    }

    /// Width of the half in the middle.
    pub fn interquartile(&self) -> f64 {
        self.quartiles[1] - self.quartiles[0]
    }
}

/// Between two samples by their distance (type 7 of Hyndman and Fan).
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let position = part * sorted.len().saturating_sub(1) as f64;
    let sample = |index: f64| sorted.get(index as usize).copied().unwrap_or_default();
    let (below, above) = (sample(position.floor()), sample(position.ceil()));
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples_in_any_order() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.5, 4.0));
        assert_eq!(spread.quartiles, [1.75, 3.25]);
        assert_eq!(spread.interquartile(), 1.5);
    }

    #[test]
    fn one_sample_has_no_spread() {
        let spread = Spread::of(vec![7.0]);
        assert_eq!((spread.median, spread.interquartile()), (7.0, 0.0));
    }
}
