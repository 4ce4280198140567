//! Class 11: too long, or base64 that is not the one spelling.

use super::*;

#[test]
fn length_and_base64() {
    let (signer, verifier) = pair();
    let good = signer.token(&claims());
    let parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    let put = |part: usize, text: String| {
        let mut parts = parts.clone();
        parts[part] = text;
        parts.join(".")
    };
    let encoding = TokenError::Encoding;
    let mut rows: Vec<Row> = vec![
        ("a byte too long", format!("{good:A<0$}", MAX_BYTES + 1), TokenError::TooLong),
        ("a megabyte", "A".repeat(1 << 20), TokenError::TooLong),
        ("a megabyte of full stops", ".".repeat(1 << 20), TokenError::TooLong),
        ("as many full stops as may be", ".".repeat(MAX_BYTES), TokenError::Malformed),
        ("nothing", String::new(), TokenError::Malformed),
        ("with its scheme", format!("Bearer {good}"), encoding),
        ("a lone character", put(2, "A".into()), encoding),
        ("stray bits in the last character", put(2, "AB".into()), encoding),
    ];
    for (part, text) in parts.iter().enumerate() {
        rows.extend([
            ("padding", put(part, format!("{text}=")), encoding),
            ("more padding", put(part, format!("{text}==")), encoding),
            ("a space before", put(part, format!(" {text}")), encoding),
            ("a line end", put(part, format!("{text}\n")), encoding),
            ("a line end inside", put(part, format!("{}\r\n{}", &text[..4], &text[4..])), encoding),
            ("a NUL", put(part, format!("{text}\0")), encoding),
            ("the standard alphabet's plus", put(part, format!("+{}", &text[1..])), encoding),
            ("the standard alphabet's slash", put(part, format!("/{}", &text[1..])), encoding),
            ("a percent escape", put(part, format!("{text}%3D")), encoding),
            ("another script", put(part, format!("{text}é")), encoding),
        ]);
    }
    assert_refused("form", &verifier, &good, &rows, 38);
}
