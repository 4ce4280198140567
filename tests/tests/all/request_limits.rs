//! Limits and quotas of requests, by the real agent: charged together, told on every response, kept across a restart.

use http::StatusCode;
use tests::agent::until;
use tests::client::{Answer, Client, inside};
use tests::privilege;
use tests::stage::Stage;

/// Nothing is paid off, and no source is over its line, while a test runs.
const ROOM: &str = "[limits.requests]\nrate = \"10000/min\"\n[limits.auth_failures]\nrate = \"1000/min\"\n";

fn bearer(stage: &Stage, subject: &str) -> String {
    format!("Bearer {}", stage.setup.issuer.token(subject, "", 300).unwrap())
}

fn get(stage: &Stage, client: &Client, path: &str, token: Option<&str>) -> Answer {
    let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
    client.get_from(&stage.crowd, path, &headers).unwrap()
}

/// What is left of each limit, as `name=number`.
fn left(answer: &Answer) -> String {
    let members = answer.header("ratelimit").split(", ").filter(|member| !member.is_empty());
    let shown = members.map(|member| {
        let mut parts = member.split(';');
        let name = parts.next().unwrap_or_default().trim_matches('"');
        let left = parts.find_map(|part| part.strip_prefix("r=")).unwrap_or_default();
        format!("{name}={left}")
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn several_limits_are_charged_together_and_every_response_says_what_is_left() {
    if !privilege::kernel_usable("limits of requests") {
        return;
    }
    let limits = "[[limit]]\nname = \"per-source\"\nby = [\"source\"]\nrate = \"5/h\"\nburst = 7\n\
                  [[limit]]\nname = \"per-user\"\nby = [\"principal\"]\nrate = \"5/h\"\nburst = 4\n\
                  [[quota]]\nname = \"daily\"\nby = [\"principal\"]\namount = 100\nper = \"month\"\n";
    let stage = Stage::new(&format!("{ROOM}{limits}")).unwrap();
    let client = stage.client(3).unwrap();
    let (alice, bob) = (bearer(&stage, "alice"), bearer(&stage, "bob"));
    for (path, token, status, expected) in [
        ("/", Some(&*alice), 200, "per-source=6 per-user=3 daily=99"),
        ("/", None, 401, "per-source=5"),
        ("/", Some("Bearer nonsense"), 401, "per-source=4"),
        ("/admin", Some(&*alice), 403, "per-source=3 per-user=2 daily=98"),
        ("/", Some(&*alice), 200, "per-source=2 per-user=1 daily=97"),
        ("/", Some(&*alice), 200, "per-source=1 per-user=0 daily=96"),
        // Refused by one, and charged to none.
        ("/", Some(&*alice), 429, "per-source=1 per-user=0 daily=96"),
        ("/", Some(&*alice), 429, "per-source=1 per-user=0 daily=96"),
    ] {
        let answer = get(&stage, &client, path, token);
        assert_eq!((answer.status.as_u16(), &*left(&answer)), (status, expected), "{path} {answer:?}");
        if status == 429 {
            assert_eq!(answer.reason(), "rate-limit");
            assert!((1..=720).contains(&answer.header("retry-after").parse().unwrap()), "{answer:?}");
            let policy = "\"per-source\";q=7;w=5040, \"per-user\";q=4;w=2880, \"daily\";q=100;w=2678400";
            assert_eq!(answer.header("ratelimit-policy"), policy);
        }
    }
    // Each stream of HTTP/2 is a request: of two, the source has one left.
    let answers = inside(&stage.crowd, async || {
        let mut session = client.connect_http2().await?;
        let first = session.get(&client, "/", &[("authorization", &bob)]).await?;
        Ok([first, session.get(&client, "/", &[("authorization", &bob)]).await?])
    });
    let statuses = answers.unwrap().map(|answer| answer.status);
    assert_eq!(statuses, [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]);
    // Over what needs nobody, no signature is looked at.
    let answer = get(&stage, &client, "/", Some("Bearer nonsense"));
    assert_eq!((answer.status.as_u16(), &*left(&answer)), (429, "per-source=0"));
    // Another source, and another user, have their own.
    let other = stage.client(4).unwrap();
    assert_eq!(left(&get(&stage, &other, "/open", None)), "per-source=6");
    stage.setup.json(&["limit", "reset", "per-source", "--source", "10.77.0.3"]).unwrap();
    stage.setup.json(&["limit", "reset", "per-user", "--principal", "alice"]).unwrap();
    let answer = get(&stage, &client, "/", Some(&alice));
    assert_eq!(left(&answer), "per-source=6 per-user=3 daily=95");
}

#[test]
fn who_was_sent_more_than_a_limit_of_bytes_gets_nothing_more() {
    if !privilege::kernel_usable("limits of bytes") {
        return;
    }
    let limits = "[[limit]]\nname = \"scraping\"\nby = [\"source\"]\ncount = \"response-bytes\"\nrate = \"1KiB/h\"\n\
                  burst = \"2KiB\"\n";
    let stage = Stage::new(&format!("{ROOM}{limits}")).unwrap();
    let client = stage.client(3).unwrap();
    let mut sent = 0;
    let refused = (0..100).map(|_| get(&stage, &client, "/open", None)).find(|answer| {
        sent += usize::from(answer.status == StatusCode::OK) * answer.body.to_string().len();
        answer.status != StatusCode::OK
    });
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.reason()), (StatusCode::TOO_MANY_REQUESTS, "rate-limit"));
    assert_eq!(left(&refused), "scraping=0");
    assert_eq!(refused.header("ratelimit-policy"), "\"scraping\";q=2048;qu=\"content-bytes\";w=7200");
    assert!(sent >= 1_024, "{sent} bytes");
}

#[test]
fn what_a_download_owes_beyond_a_burst_survives_a_restart_and_shows_in_the_metrics() {
    if !privilege::kernel_usable("debts of bytes across a restart") {
        return;
    }
    let limits = "[[limit]]\nname = \"scraping\"\nby = [\"principal\"]\ncount = \"response-bytes\"\nrate = \"10/h\"\n\
                  burst = \"10\"\n";
    let mut stage = Stage::new(&format!("{ROOM}{limits}")).unwrap();
    let client = stage.client(3).unwrap();
    let alice = bearer(&stage, "alice");
    let ask = |stage: &Stage| get(stage, &client, "/", Some(&alice));
    let sent = ask(&stage);
    assert_eq!(sent.status, StatusCode::OK);
    let wait = |answer: &Answer| {
        assert_eq!((answer.status, answer.reason()), (StatusCode::TOO_MANY_REQUESTS, "rate-limit"));
        answer.header("retry-after").parse::<u64>().unwrap()
    };
    let before = wait(&ask(&stage));
    assert!(before > 3_600, "{before}: more than the burst");
    let metrics = String::from_utf8(stage.setup.cli(&["metrics"]).unwrap().stdout).unwrap();
    let used = "auth_agent_limit_entries{class=\"identified\",kind=\"debts\"} 1\n";
    assert!(metrics.contains(used), "{metrics}");
    let mut agent = stage.agent.take().unwrap();
    agent.terminate().unwrap();
    agent.wait().unwrap();
    stage.restart().unwrap();
    let after = wait(&ask(&stage));
    assert!((before - 600..=before).contains(&after), "{before} s, then {after} s");
}

#[test]
fn who_goes_on_beyond_a_limit_of_its_source_is_banned_and_not_for_one_of_a_principal() {
    if !privilege::kernel_usable("bans for limits of requests") {
        return;
    }
    let more = "[ladder]\nrate = \"1/h\"\nburst = 20\nknown_factor = 1\n\
                [[limit]]\nname = \"per-user\"\nby = [\"principal\"]\nrate = \"1/h\"\nroutes = [\"/\"]\n\
                [[limit]]\nname = \"per-source\"\nby = [\"source\"]\nrate = \"1/h\"\nroutes = [\"/open\"]\n";
    let stage = Stage::new(&format!("{ROOM}{more}")).unwrap();
    let offences = || stage.setup.json(&["status"]).unwrap()["ladder"]["offences"]["route-limit"].clone();
    let [shared, scraper] = [3, 4].map(|number| stage.client(number).unwrap());
    let alice = bearer(&stage, "alice");
    for number in 0..30 {
        let expected = if number == 0 { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
        assert_eq!(get(&stage, &shared, "/", Some(&alice)).status, expected, "{number}");
    }
    assert_eq!(offences(), 0);
    // Twenty may be refused, and the one after them is one too many.
    let statuses = inside(&stage.crowd, async || {
        let mut session = scraper.connect().await?;
        let mut statuses = Vec::new();
        for _ in 0..22 {
            statuses.push(session.get(&scraper, "/open", &[]).await?.status.as_u16());
        }
        Ok(statuses)
    });
    assert_eq!(statuses.unwrap(), [&[200][..], &[429; 21]].concat());
    until("the scraper is banned", || {
        Ok(stage.setup.json(&["ban", "list"])?["bans"][0]["network"] == "10.77.0.4/32")
    })
    .unwrap();
    assert_eq!(offences(), 21);
    assert_eq!(get(&stage, &shared, "/open", None).status, StatusCode::OK);
}

#[test]
fn a_quota_and_what_was_set_for_good_survive_a_restart_and_a_reset_gives_it_back() {
    if !privilege::kernel_usable("quotas of requests") {
        return;
    }
    let limits = "[[quota]]\nname = \"monthly\"\nby = [\"principal\"]\namount = 3\nper = \"month\"\n\
                  [[limit]]\nname = \"per-user\"\nby = [\"principal\"]\nrate = \"5/h\"\nburst = 100\n";
    let mut stage = Stage::new(&format!("{ROOM}{limits}")).unwrap();
    let client = stage.client(3).unwrap();
    let alice = bearer(&stage, "alice");
    let ask = |stage: &Stage| get(stage, &client, "/", Some(&alice));
    for number in 1..=2 {
        assert_eq!(ask(&stage).status, StatusCode::OK, "{number}");
    }
    stage.setup.json(&["limit", "set", "per-user", "--rate", "7/h", "--burst", "70", "--durable"]).unwrap();
    let mut agent = stage.agent.take().unwrap();
    agent.terminate().unwrap();
    agent.wait().unwrap();
    stage.restart().unwrap();
    let answer = ask(&stage);
    assert_eq!((answer.status, left(&answer)), (StatusCode::OK, "per-user=69 monthly=0".to_owned()));
    let answer = ask(&stage);
    assert_eq!((answer.status, answer.reason()), (StatusCode::TOO_MANY_REQUESTS, "quota"));
    let listed = stage.setup.json(&["limit", "list"]).unwrap();
    assert_eq!(
        (&listed["limits"][0]["set"], &listed["limits"][0]["budget"]["rate"]),
        (&"durable".into(), &"7/h".into())
    );
    let owing = stage.setup.json(&["limit", "show", "--principal", "alice"]).unwrap();
    assert_eq!(owing["debts"].as_array().unwrap().len(), 2, "{owing}");
    stage.setup.json(&["limit", "reset", "monthly", "--principal", "alice"]).unwrap();
    let answer = ask(&stage);
    assert_eq!((answer.status, left(&answer)), (StatusCode::OK, "per-user=68 monthly=2".to_owned()));
}
