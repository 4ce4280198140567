//! The table: what a message says, and what the upstream may see of it.

/// What reaches the upstream.
#[derive(Clone, Copy, Debug)]
pub enum Sees {
    /// At most a request that breaks off: its body turned out to be wrong.
    Cut,
    /// Nothing.
    Nothing,
    /// The authorised request, whole, once.
    One,
    /// Either of the last two: RFC 9112 leaves it to the server.
    OneOrNothing,
}

/// One line of the table. `{PATH}` and `{TOKEN}` stand for its own.
pub struct Case {
    /// What reaches the upstream.
    pub sees: Sees,
    text: String,
    /// In words, or as it is sent.
    pub what: String,
}

impl Case {
    /// The bytes.
    pub fn message(&self, token: &str, number: usize) -> Vec<u8> {
        let text = self.text.replace("{TOKEN}", token).replace("{PATH}", &format!("/raw/{number}"));
        // Characters up to U+00FF stand for bytes.
        text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
    }
}

const LINE: &str = "POST {PATH} HTTP/1.1\r\n";
const FIELDS: &str = "Host: localhost:8443\r\nAuthorization: Bearer {TOKEN}\r\n";
/// What an attacker would have the upstream see.
const SMUGGLED: &str = "GET /raw/smuggled HTTP/1.1\r\nHost: localhost\r\nX-Auth-Subject: root\r\n\r\n";

fn case(text: impl Into<String>, sees: Sees) -> Case {
    let text = text.into();
    let what = text.replace(FIELDS, "").replace(SMUGGLED, "SMUGGLED").escape_debug().to_string();
    Case { sees, text, what }
}

/// The usual head with more lines, then a body.
fn with(lines: &str, body: &str, sees: Sees) -> Case {
    case(format!("{LINE}{FIELDS}{lines}\r\n{body}"), sees)
}

/// All.
pub fn cases() -> Vec<Case> {
    [lengths(), codings(), both(), chunks(), lines(), targets(), followed()].into_iter().flatten().collect()
}

fn lengths() -> Vec<Case> {
    let mut cases = vec![
        with("", "", Sees::One),
        with("Content-Length: 2\r\n", "ab", Sees::One),
        with("Content-Length:2\r\n", "ab", Sees::One),
        with("Content-Length:\t 2 \t\r\n", "ab", Sees::One),
        with("Content-Length: 02\r\n", "ab", Sees::OneOrNothing),
        with("Content-Length: 2\r\nContent-Length: 2\r\n", "ab", Sees::OneOrNothing),
        with("Content-Length: 5\r\n", "ab", Sees::Cut),
    ];
    for length in [
        "+2",
        "-2",
        "0x2",
        "2,2",
        "2, 2",
        "2 2",
        "2.0",
        "2;",
        "",
        "2e0",
        "'2'",
        "99999999999999999999",
        "2\u{0}",
        "\u{b}2",
        "\u{a0}2",
        "\u{c}2",
        "2\u{b}",
    ] {
        cases.push(with(&format!("Content-Length: {length}\r\n"), "ab", Sees::Nothing));
    }
    for second in ["0", "3", "70"] {
        let lines = format!("Content-Length: 2\r\nContent-Length: {second}\r\n");
        cases.push(with(&lines, &format!("ab{SMUGGLED}"), Sees::Nothing));
    }
    for line in
        ["Content-Length : 70", "Content\u{0}-Length: 70", " Content-Length: 70", "Content-Length\t: 70"]
    {
        cases.push(with(&format!("{line}\r\n"), SMUGGLED, Sees::Nothing));
    }
    cases
}

fn codings() -> Vec<Case> {
    let body = "2\r\nab\r\n0\r\n\r\n";
    let mut cases = Vec::new();
    for coding in ["chunked", "Chunked", "CHUNKED", "\tchunked", "chunked ", "  chunked\t"] {
        cases.push(with(&format!("Transfer-Encoding: {coding}\r\n"), body, Sees::One));
    }
    for coding in [
        "xchunked",
        "chunkedx",
        "chunk",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked;q=1",
        "chunked; x",
        "\"chunked\"",
        "'chunked'",
        "[chunked]",
        "",
        ",",
        "chunked\u{0}",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "\u{a0}chunked",
        "\u{0}chunked",
        "chunked\r",
        "chun\u{17f}ed",
        "chunked x",
        "x\r\n chunked",
        "\r\n chunked",
    ] {
        let smuggling = format!("0\r\n\r\n{SMUGGLED}");
        cases.push(with(&format!("Transfer-Encoding: {coding}\r\n"), &smuggling, Sees::Nothing));
    }
    for line in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer\u{0}-Encoding: chunked",
        "Transfer-Encoding\u{0}: chunked",
        "Transfer-\r\nEncoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding chunked",
    ] {
        cases.push(with(&format!("{line}\r\n"), &format!("0\r\n\r\n{SMUGGLED}"), Sees::Nothing));
    }
    let old = LINE.replace("1.1", "1.0");
    cases.push(case(
        format!("{old}{FIELDS}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        Sees::Nothing,
    ));
    cases
}

/// Both ways to frame at once.
fn both() -> Vec<Case> {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let (length, coding) = (format!("Content-Length: {}\r\n", body.len()), "Transfer-Encoding: chunked\r\n");
    let mut cases = vec![
        with(&format!("{length}{coding}"), &body, Sees::OneOrNothing),
        with(&format!("{coding}{length}"), &body, Sees::OneOrNothing),
        with(&format!("Content-Length: 4\r\n{coding}"), "5c\r\nab\r\n0\r\n\r\n", Sees::Cut),
        // What a hop is told not to pass on frames all the same.
        with(&format!("Connection: transfer-encoding\r\n{coding}"), "2\r\nab\r\n0\r\n\r\n", Sees::One),
        with("Connection: content-length\r\nContent-Length: 2\r\n", "ab", Sees::One),
        with("Connection: host, x-auth-subject, authorization\r\n", "", Sees::One),
    ];
    for hidden in [
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "X: x\rTransfer-Encoding: chunked\r\n",
        "X: x\u{0}\r\nTransfer-Encoding: chunked\u{0}\r\n",
    ] {
        cases.push(with(&format!("{length}{hidden}"), &body, Sees::Nothing));
    }
    // A bare LF ends a line, here and in what the upstream gets (RFC 9112, 2.2).
    cases.push(with(&format!("{length}X: x\nTransfer-Encoding: chunked\r\n"), &body, Sees::OneOrNothing));
    cases
}

fn chunks() -> Vec<Case> {
    let chunked = |body: &str, sees| with("Transfer-Encoding: chunked\r\n", body, sees);
    let mut cases = Vec::new();
    for good in [
        "2\r\nab\r\n0\r\n\r\n",
        "02\r\nab\r\n000\r\n\r\n",
        "2;x=y\r\nab\r\n0;z\r\n\r\n",
        "2;x=\"y;z\"\r\nab\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "2\r\nab\r\n0\r\nX-Auth-Subject: root\r\n\r\n",
        "2\r\nab\r\n0\r\nContent-Length: 99\r\n\r\n",
    ] {
        cases.push(chunked(good, Sees::One));
    }
    for size in [
        "zz",
        "-1",
        "+2",
        "0x2",
        "",
        " 2",
        "fffffffffffffffff",
        "ffffffffffffffff",
        "2\u{0}",
        "2 2",
        "2,",
        "2\u{b}",
        ";x",
        "2\r",
        "\u{b2}",
    ] {
        cases.push(chunked(&format!("{size}\r\nab\r\n0\r\n\r\n{SMUGGLED}"), Sees::Cut));
    }
    for body in [
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\na\r\n0\r\n\r\n",
        "2\r\nab0\r\n\r\n",
        "2\nab\n0\n\n",
        "2\r\nab\n0\r\n\r\n",
        "2\r\nab\r0\r\n\r\n",
        "2;a\n0\r\n\r\n\r\nab\r\n0\r\n\r\n",
        "2;\nxx\r\nab\r\n0\r\n\r\n",
        "2\r\rab\r\n0\r\n\r\n",
        "2;x\rab\r\n0\r\n\r\n",
    ] {
        cases.push(chunked(&format!("{body}{SMUGGLED}"), Sees::Cut));
    }
    cases.push(chunked("2 \r\nab\r\n0\r\n\r\n", Sees::OneOrNothing));
    // It never ends.
    cases.push(chunked("2\r\nab\r\n", Sees::Cut));
    cases.push(chunked("2\r\nab\r\n0\r\n", Sees::Cut));
    cases
}

/// Lines of the head.
fn lines() -> Vec<Case> {
    let mut cases = vec![
        // An empty line before a request is passed over (RFC 9112, 2.2).
        case(format!("\r\n{LINE}{FIELDS}\r\n"), Sees::One),
        case(format!("{LINE}{FIELDS}\r\n").replace("\r\n", "\n"), Sees::One),
        with("X_Auth_Subject: root\r\nX-Auth-Subject: root\r\nx.auth.subject: root\r\n", "", Sees::One),
    ];
    for line in [
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X\u{0}: a",
        "X: \u{0}",
        "X: a\rb",
        "X\r: a",
        "no colon",
        ": no name",
        "X(A): 1",
        "X A: 1",
        "X\u{e9}: 1",
        "X\u{7f}: 1",
        "\u{0}",
        "X: a\r\n\r",
        "@: 1\u{0}",
    ] {
        cases.push(with(&format!("{line}\r\n"), SMUGGLED, Sees::Nothing));
    }
    for host in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host : localhost\r\n",
        "Host: local host\r\n",
        "Host: localhost/x\r\n",
        "Host: a@localhost\r\n",
    ] {
        let fields = FIELDS.replace("Host: localhost:8443\r\n", host);
        cases.push(case(format!("{LINE}{fields}\r\n"), Sees::Nothing));
    }
    let first = FIELDS.replace("Host", " Host");
    cases.push(case(format!("{LINE}{first}\r\n"), Sees::Nothing));
    cases
}

/// Request lines.
fn targets() -> Vec<Case> {
    let line = |line: &str, sees| case(format!("{line}\r\n{FIELDS}\r\n"), sees);
    let mut cases = vec![
        line("POST https://localhost:8443{PATH} HTTP/1.1", Sees::One),
        // What is behind the `#` is taken off, and reaches nobody.
        line("POST {PATH}#smuggled HTTP/1.1", Sees::OneOrNothing),
    ];
    for strange in [
        "POST  {PATH} HTTP/1.1",
        "POST {PATH}  HTTP/1.1",
        "POST\t{PATH}\tHTTP/1.1",
        " POST {PATH} HTTP/1.1",
        "POST {PATH} HTTP/1.1 ",
        "POST {PATH} HTTP/1.1\r",
        "POST {PATH} http/1.1",
        "POST {PATH} HTTP/1.2",
        "POST {PATH} HTTP/2.0",
        "POST {PATH} HTTP/0.9",
        "POST {PATH} HTTP/11",
        "POST {PATH}",
        "POST {PATH} HTTP/1.1\u{0}",
        "PO\u{0}ST {PATH} HTTP/1.1",
        "PO(ST {PATH} HTTP/1.1",
        "POST {PATH}\u{0} HTTP/1.1",
        "POST {PATH}\u{7f} HTTP/1.1",
        "POST {PATH}\u{e9} HTTP/1.1",
        "POST *{PATH} HTTP/1.1",
        "POST raw HTTP/1.1",
        "POST http://localhost:8443{PATH} HTTP/1.1",
        "POST https://other{PATH} HTTP/1.1",
        "POST https://a@localhost:8443{PATH} HTTP/1.1",
        "CONNECT localhost:8443 HTTP/1.1",
        "TRACE {PATH} HTTP/1.1",
        "POST {PATH}/../smuggled HTTP/1.1",
        "POST {PATH}/%2e%2e/smuggled HTTP/1.1",
        "POST {PATH}%00 HTTP/1.1",
        "POST {PATH}%2fsmuggled HTTP/1.1",
        "POST {PATH}\\smuggled HTTP/1.1",
        "POST /{PATH} HTTP/1.1",
    ] {
        cases.push(line(strange, Sees::Nothing));
    }
    cases
}

/// What comes behind a whole request is a request of its own, and has to be authorised.
fn followed() -> Vec<Case> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let get = LINE.replace("POST", "GET");
    vec![
        with("", SMUGGLED, Sees::One),
        with("Content-Length: 2\r\n", &format!("ab{SMUGGLED}"), Sees::One),
        with("Content-Length: 2\r\n", &format!("ab\r\n{SMUGGLED}"), Sees::One),
        with("Transfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{SMUGGLED}"), Sees::One),
        with("Expect: 100-continue\r\nContent-Length: 2\r\n", &format!("ab{SMUGGLED}"), Sees::OneOrNothing),
        case(format!("{get}{FIELDS}Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()), Sees::One),
        case(format!("{get}{FIELDS}{upgrade}\r\n{SMUGGLED}"), Sees::OneOrNothing),
        case(format!("{get}{FIELDS}{upgrade}Content-Length: 0\r\n\r\n{SMUGGLED}"), Sees::OneOrNothing),
        case(
            format!(
                "{get}{FIELDS}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{SMUGGLED}"
            ),
            Sees::OneOrNothing,
        ),
        case(format!("{}{FIELDS}\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Sees::Nothing),
    ]
}
