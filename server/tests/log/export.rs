//! What is exported, and imported again.

use serde_json::{Value, json};

use crate::support::{Hub, Place, events, one_line, text, without_cursors};

const MIXED: &str = concat!(
    r#"{"topic": ["a", "b"], "data": "x\ny\u0001", "id": "mine", "type": "update", "retry": 1500, "private": true}"#,
    "\n",
    r#"{"topic": "c", "data_base64": "AP8K"}"#,
    "\n",
    r#"{"topic": "a", "data": {"n":  1.50}}"#,
    "\n",
    r#"{"topic": "ü \"q\""}"#,
    "\n",
);

fn seqs(events: &[Value]) -> Vec<u64> {
    let seq = |event: &Value| event["cursor"].as_str().unwrap().split(':').nth(1).unwrap().parse().unwrap();
    events.iter().map(seq).collect()
}

#[test]
fn everything_that_was_published_is_exported_and_is_the_same_with_and_without_a_hub() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish(MIXED);
    let online = place.export("data", &[]);
    hub.stop();
    assert_eq!(place.export("data", &[]), online);
    assert!(online.iter().all(|event| event["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000)));
    let mut plain = without_cursors(&online);
    plain.iter_mut().for_each(|event| _ = event.as_object_mut().unwrap().remove("at"));
    let expected = json!([
        {"topic": ["a", "b"], "data": "x\ny\u{1}", "id": "mine", "type": "update", "retry": 1500, "private": true},
        {"topic": "c", "data_base64": "AP8K"},
        {"topic": "a", "data": "{\"n\":  1.50}"},
        {"topic": "ü \"q\"", "data": ""},
    ]);
    assert_eq!(Value::Array(plain), expected);
}

#[test]
fn topics_and_a_range_choose_and_the_last_cursor_goes_on() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish(MIXED);
    // More than a page.
    let ids = hub.publish_numbers("many", 0..2500);
    let export = |arguments: &[&str]| seqs(&place.export("data", arguments));
    assert_eq!(export(&["--topic", "a"]), [1, 3]);
    assert_eq!(export(&["--topic", "b", "--topic", "c"]), [1, 2]);
    assert_eq!(export(&["--after", "1", "--to", "3"]), [2, 3]);
    assert_eq!(export(&["--after", &ids[1999], "--to", &ids[2001]]), [2005, 2006]);
    assert_eq!(export(&["--topic", "many"]), (5..=2504).collect::<Vec<_>>());
    assert_eq!(export(&["--after", &ids[2499]]), [0; 0]);
    assert_eq!(export(&["--after", "3", "--to", "2"]), [0; 0]);
    hub.publish_numbers("many", 0..2);
    assert_eq!(export(&["--after", &ids[2499]]), [2505, 2506]);
    for (arguments, said) in [
        (["--after", "#vvvvvvvvvv:1"], "is of the log vvvvvvvvvv"),
        (["--after", "2507"], "the newest event of this log has the number 2506"),
        (["--to", "#nope"], "neither a number nor a cursor"),
        (["--topic", ""], "is no topic"),
    ] {
        one_line(&place.log("data", &[&["export"], &arguments[..]].concat()), said);
    }
}

#[test]
fn what_is_gone_of_a_range_that_was_asked_for_is_told() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &["--history-events-max", "10"]);
    hub.publish_numbers("a", 0..30);
    for _ in 0..2 {
        assert_eq!(seqs(&place.export("data", &[])), (21..=30).collect::<Vec<_>>(), "who wants what is kept gets it");
        let output = place.log("data", &["export", "--after", "5", "--to", "22"]);
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(seqs(&events(&text(&output.stdout))), [21, 22]);
        assert!(text(&output.stderr).starts_with("fanwire: gap: events 6 to 20 may be missing"), "{output:?}");
        let output = place.log("data", &["export", "--after", "20"]);
        assert_eq!(output.status.code(), Some(0));
        if place.path("data").join("hub.sock").exists() {
            let id = hub.child.id().to_string();
            std::process::Command::new("kill").arg(&id).status().unwrap();
            crate::support::until("it ends", || (!place.path("data").join("hub.sock").exists()).then_some(()));
        }
    }
}

#[test]
fn a_file_is_whole_or_not_there_and_never_written_over() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish_numbers("a", 0..2000);
    let out = place.path("out");
    let out = out.to_str().unwrap();
    assert_eq!(place.ok("data", &["export", "-o", out]), "");
    assert_eq!(events(&std::fs::read_to_string(out).unwrap()), place.export("data", &[]));
    one_line(&place.log("data", &["export", "-o", out]), "exists");
    one_line(&place.log("data", &["export", "-o", place.path("no/x").to_str().unwrap()]), "no/x");
    let absent = place.path("absent");
    one_line(&place.log("data", &["export", "--after", "9999", "-o", absent.to_str().unwrap()]), "the newest event");
    let mut names: Vec<_> = std::fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["data", "out"]);
}

#[test]
fn an_import_of_an_export_gives_the_same_events() {
    let place = Place::new();
    let hub = Hub::start(&place.path("one"), &[]);
    hub.publish(MIXED);
    hub.publish_numbers("many", 0..2500);
    hub.stop();
    let lines = place.ok("one", &["export"]);
    let file = place.write("lines", &lines);
    let expected = without_cursors(&events(&lines));
    // Into a log that a hub serves,
    let hub = Hub::start(&place.path("two"), &[]);
    assert_eq!(place.ok("two", &["import", &file]), "2504 events imported, 0 were in the log already\n");
    assert_eq!(without_cursors(&place.export("two", &[])), expected);
    // Again it doubles nothing, and what has another event's cursor is refused.
    let changed = lines.replacen("\"data\":\"2499\"", "\"data\":\"changed\"", 1);
    assert_eq!(place.ok("two", &["import", &file]), "0 events imported, 2504 were in the log already\n");
    let output = place.log("two", &["import", &place.write("changed", &changed)]);
    assert_eq!(text(&output.stdout), "0 events imported, 2503 were in the log already\n");
    assert!(text(&output.stderr).starts_with("fanwire: line 2504: its cursor stands for another event"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(without_cursors(&place.export("two", &[])), expected);
    assert_eq!(crate::support::feed(&hub.url, "topic=many&last_event_id=earliest", 2500).len(), 2500);
    hub.stop();
    // into one that none does,
    Hub::start(&place.path("three"), &[]).stop();
    assert_eq!(place.ok("three", &["import", &file]), "2504 events imported, 0 were in the log already\n");
    assert_eq!(place.ok("three", &["import", &file]), "0 events imported, 2504 were in the log already\n");
    assert_eq!(without_cursors(&place.export("three", &[])), expected);
    // and a hub goes on with it.
    let hub = Hub::start(&place.path("three"), &[]);
    let id = hub.publish("{\"topic\": \"a\"}\n").remove(0);
    assert!(id.ends_with(":2505"), "{id}");
    assert_eq!(without_cursors(&place.export("three", &["--to", "2504"])), expected);
}

#[test]
fn an_import_stops_at_a_bad_line_and_goes_on_behind_it() {
    let place = Place::new();
    let _hub = Hub::start(&place.path("data"), &[]);
    let mut lines: Vec<String> = (1..=2500).map(|n| format!("{{\"topic\": \"a\", \"data\": \"{n}\"}}")).collect();
    lines[2299] = "{\"topic\": \"*\"}".to_owned();
    lines[1] = String::new();
    let file = place.write("lines", &lines.join("\n"));
    let output = place.log("data", &["import", &file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("line 2300: ") && said.contains("--from-line 2001"), "{said}");
    assert_eq!(place.stat("data")["events"], 1999, "of the batch with the bad line nothing is in");
    lines[2299] = "{\"topic\": \"a\", \"data\": \"2300\"}".to_owned();
    let file = place.write("lines", &lines.join("\n"));
    assert_eq!(
        place.ok("data", &["import", &file, "--from-line", "2001"]),
        "500 events imported, 0 were in the log already\n"
    );
    let data: Vec<_> = place.export("data", &[]).iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, (1..=2500).filter(|&n| n != 2).map(|n| Value::from(n.to_string())).collect::<Vec<_>>());
    one_line(&place.log("data", &["import", "nowhere"]), "nowhere");
    one_line(&place.log("data", &["import", &file, "--from-line", "2502"]), "has 2500 lines, and no line 2502");
    let cut = place.write("cut", "{\"topic\": \"a\"}\n{\"topic\": \"b\n");
    one_line(&place.log("data", &["import", &cut]), "line 2: EOF while parsing a string at column 12");
}
