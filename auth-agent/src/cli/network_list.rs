//! Lists of networks, one per line, as block lists are published.

use std::path::Path;

use super::line_list;
use crate::network::parse_network;

/// Above any list that the store takes.
const LIST_BYTES: u64 = 16 * 1024 * 1024;

/// Reads the list in `path`, or standard input where that is `-`; the error names every wrong line.
pub(super) fn read(path: &Path) -> Result<Vec<String>, String> {
    parse(&line_list::read(path, LIST_BYTES)?, path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<String>, String> {
    let mut networks = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line.split(['#', ';']).next().unwrap_or_default().trim() {
            "" => {}
            entry => match parse_network(entry) {
                Ok(network) => networks.push(network.to_string()),
                Err(error) => wrong.push(format!("{}:{number}: {error}", path.display())),
            },
        }
    }
    line_list::all(networks, wrong, "nothing was banned")
}

#[cfg(test)]
mod tests {
    use super::line_list::NAMED;
    use super::*;

    #[test]
    fn remarks_and_blank_lines_are_passed_over() {
        let text = "# a list\n\n192.0.2.0/24 ; SBL1\r\n 2001:db8::1 # one\n;\n203.0.113.7\n";
        let networks = parse(text, Path::new("list")).unwrap();
        assert_eq!(networks, ["192.0.2.0/24", "2001:db8::1/128", "203.0.113.7/32"]);
    }

    #[test]
    fn every_wrong_line_is_named_and_the_rest_is_not_banned() {
        let error = parse("192.0.2.0/24\nnonsense\n10.0.0.1/8\n", Path::new("list")).unwrap_err();
        assert!(
            error.contains("list:2: ") && error.contains("list:3: ") && !error.contains("list:1"),
            "{error}"
        );
    }

    #[test]
    fn of_many_wrong_lines_the_first_are_named_and_the_rest_counted() {
        let error = parse(&"x\n".repeat(25), Path::new("list")).unwrap_err();
        assert_eq!(error.lines().count(), NAMED + 1, "{error}");
        assert!(error.ends_with("and 15 more; nothing was banned"), "{error}");
    }
}
