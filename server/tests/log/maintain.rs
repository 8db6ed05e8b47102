//! Checking, compacting and backing up.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use redb::TableDefinition;
use serde_json::Value;

use crate::support::{Hub, PATIENCE, Place, command, feed, one_line, run, text, until, without_cursors};

/// Publishes until it is told to stop; what was acknowledged, in order.
struct Load {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<(String, String)>>,
}

impl Load {
    fn start(hub: &Hub) -> Self {
        let (stop, url) = (Arc::new(AtomicBool::new(false)), hub.url.clone());
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut acknowledged = vec![];
            while !stopped.load(Ordering::Relaxed) {
                let numbers: Vec<String> = (0..20).map(|n| (acknowledged.len() + n).to_string()).collect();
                let lines: String =
                    numbers.iter().map(|n| format!("{{\"topic\": \"load\", \"data\": \"{n}\"}}\n")).collect();
                let ids = text(&run(&mut command(&["pub", &url, "--ndjson"]), &lines).stdout);
                assert_eq!(ids.lines().count(), 20, "each is acknowledged");
                acknowledged.extend(ids.lines().map(str::to_owned).zip(numbers));
            }
            acknowledged
        });
        Self { stop, thread }
    }

    fn stop(self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn loaded(events: &[Value]) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events.iter().map(|event| (text(event, "cursor"), text(event, "data"))).collect()
}

#[test]
fn a_sound_log_is_found_sound_with_and_without_a_hub() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &["--history-events-max", "50"]);
    let lines: String = (0..120).map(|n| format!("{{\"topic\": [\"a\", \"b\"], \"id\": \"id{}\"}}\n", n % 7)).collect();
    hub.publish(&lines);
    assert_eq!(place.ok("data", &["verify"]), "50 events are sound\n");
    hub.stop();
    assert_eq!(place.ok("data", &["verify"]), "the file and 50 events are sound\n");
}

#[test]
fn damaged_indexes_are_found_and_named() {
    let place = Place::new();
    Hub::start(&place.path("data"), &[]).publish("{\"topic\": \"a\", \"id\": \"mine\"}\n{\"topic\": \"a\"}\n");
    until("it ends", || redb::Database::open(place.path("data").join("log.redb")).ok());
    let database = redb::Database::open(place.path("data").join("log.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let topics: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("topics");
    transaction.open_table(topics).unwrap().remove(("a", 2)).unwrap();
    let ids: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("ids");
    transaction.open_table(ids).unwrap().insert(("other", 9), ()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let found = |output: &std::process::Output| {
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stderr), "fanwire: the log is damaged: 2 problems; 2 events can be read\n");
        let said = text(&output.stdout);
        assert!(said.contains("event 2: it isn't found by its topic a"), "{said}");
        assert!(said.contains("the id other: it has an entry for event 9, which isn't kept"), "{said}");
    };
    found(&place.log("data", &["verify"]));
    let _hub = Hub::start(&place.path("data"), &[]);
    found(&place.log("data", &["verify"]));
}

#[test]
fn a_file_that_was_changed_by_others_is_found_damaged_and_the_rest_is_still_told() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish_numbers("a", 0..1000);
    hub.publish("{\"topic\": \"a\", \"data\": \"what will be damaged\"}\n");
    hub.publish_numbers("a", 0..999);
    hub.stop();
    let file = place.path("data").join("log.redb");
    let mut bytes = fs::read(&file).unwrap();
    // Where it is, and was before its page was moved.
    let found = bytes.windows(20).enumerate().filter(|(_, window)| *window == b"what will be damaged");
    let found: Vec<usize> = found.map(|(at, _)| at).collect();
    found.into_iter().for_each(|at| bytes[at] ^= 0x40);
    fs::write(&file, &bytes).unwrap();
    let output = place.log("data", &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).starts_with("the file: "), "{output:?}");
    assert!(text(&output.stdout).contains("event 1001: it isn't what was published\n"), "{output:?}");
    assert_eq!(text(&output.stderr), "fanwire: the log is damaged: 2 problems; 1,999 events can be read\n");
    // What is moved would get a new checksum, and the damage look sound.
    one_line(&place.log("data", &["compact"]), "it is damaged");
    assert_eq!(fs::read(&file).unwrap(), bytes, "it is left as it is");
}

/// The database panics on some pages that can't be ones.
#[test]
fn whatever_is_damaged_is_told_in_one_line() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish_numbers("a", 0..2000);
    hub.stop();
    let file = place.path("data").join("log.redb");
    let whole = fs::read(&file).unwrap();
    let used: Vec<usize> = (4096..whole.len()).filter(|&at| whole[at] != 0).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut failed = 0;
    for round in 0..12 {
        let mut bytes = whole.clone();
        (0..20).for_each(|_| bytes[*rng.choice(&used).unwrap()] ^= 1 << rng.u8(0..8));
        fs::write(&file, &bytes).unwrap();
        let verdict = place.log("data", &["verify"]);
        assert_eq!(verdict.status.code(), Some(1), "{verdict:?}");
        assert!(text(&verdict.stdout).starts_with("the file: "), "{verdict:?}");
        let copy = place.path(&format!("copy{round}"));
        for arguments in [&["stat"][..], &["backup", copy.to_str().unwrap()]] {
            let output = place.log("data", arguments);
            if !output.status.success() {
                one_line(&output, "damaged");
                failed += 1;
            }
        }
        assert_eq!(text(&verdict.stderr).lines().count(), 1, "{verdict:?}");
        assert!(fs::read(&file).unwrap() == bytes, "it is left as it is");
    }
    assert!(failed > 0, "the database found nothing");
}

#[test]
fn who_reads_only_a_part_of_what_is_said_is_no_failure() {
    let place = Place::new();
    Hub::start(&place.path("data"), &[]).stop();
    for arguments in [&["stat"][..], &["stat", "--json"], &["verify"], &["compact"]] {
        let mut log = command(&["log", "--data-dir"]);
        let mut child =
            log.arg(place.path("data")).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn compacting_gives_space_back_under_load_and_loses_nothing() {
    let place = Place::new();
    // Kept for a while, and then evicted: most of the file is free.
    let hub = Hub::start(&place.path("data"), &["--retention", "topics=big;events_max=10", "--heartbeat", "1s"]);
    let big = "x".repeat(100_000);
    for _ in 0..10 {
        hub.publish(&format!("{{\"topic\": \"big\", \"data\": \"{big}\"}}\n").repeat(20));
    }
    let live = {
        let url = hub.url.clone();
        let mut sub = command(&["sub", &url, "-t", "load", "--json", "--transport", "sse-h1"]);
        let mut child = sub.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
        assert!(line.contains("connected"), "{line}");
        (child, stderr)
    };
    let load = Load::start(&hub);
    // Who needs history all the while gets it.
    let reading = Arc::new(AtomicBool::new(true));
    let reader = {
        let (reading, url) = (reading.clone(), hub.url.clone());
        thread::spawn(move || {
            let mut reads = 0;
            while reading.load(Ordering::Relaxed) {
                assert_eq!(feed(&url, "topic=big&last_event_id=earliest", 5).len(), 5);
                reads += 1;
            }
            reads
        })
    };
    let before = fs::metadata(place.path("data").join("log.redb")).unwrap().len();
    for _ in 0..3 {
        let said = place.ok("data", &["compact"]);
        assert!(said.starts_with("from ") && said.contains(" to "), "{said}");
    }
    let after = fs::metadata(place.path("data").join("log.redb")).unwrap().len();
    let acknowledged = load.stop();
    reading.store(false, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 3);
    assert!(after < before / 2, "{before} bytes before, {after} after");
    assert_eq!(loaded(&place.export("data", &["--topic", "load"])), acknowledged);
    assert_eq!(place.ok("data", &["verify"]).lines().count(), 1);
    // The live feed had all of it, on one connection.
    let (mut child, mut stderr) = live;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for (id, _) in &acknowledged {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["id"], **id);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "", "it was never cut");
    hub.stop();
    // And where no hub runs.
    let hub = Hub::start(&place.path("data"), &["--history-events-max", "1"]);
    hub.publish_numbers("load", 0..1);
    hub.stop();
    place.ok("data", &["compact"]);
    assert!(place.ok("data", &["verify"]).ends_with("events are sound\n"));
}

#[test]
fn a_compaction_tells_how_far_it_is_and_ends_when_nobody_waits_for_it() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &["--history-events-max", "300", "--fsync", "50ms"]);
    let big = "x".repeat(100_000);
    let mut ids = vec![];
    for _ in 0..30 {
        ids = hub.publish(&format!("{{\"topic\": \"big\", \"data\": \"{big}\"}}\n").repeat(20));
    }
    let mut socket = UnixStream::connect(place.path("data").join("hub.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"POST /log/compact HTTP/1.1\r\nhost: hub\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut lines = BufReader::new(socket).lines().map(Result::unwrap);
    let step = lines.find(|line| line.starts_with("{\"progress\":")).expect("it tells how far it is");
    let step: Value = serde_json::from_str(&step).unwrap();
    let (done, total) = (&step["progress"]["done"], &step["progress"]["total"]);
    assert_eq!(step["progress"]["stage"], "compacting");
    assert!(done.as_u64() > Some(0) && done.as_u64() <= total.as_u64(), "{step}");
    drop(lines);
    // No number is skipped, though the log was opened anew.
    let seq = |id: &str| id.split(':').nth(1).unwrap().parse::<u64>().unwrap();
    let next = hub.publish_numbers("a", 0..1).remove(0);
    assert_eq!(seq(&next), seq(ids.last().unwrap()) + 1);
    assert_eq!(place.ok("data", &["verify"]), "300 events are sound\n");
    let before = fs::metadata(place.path("data").join("log.redb")).unwrap().len();
    let said = place.ok("data", &["compact"]);
    assert!(said.starts_with("from ") && before > 45_000_000, "{said}");
    assert_eq!(place.ok("data", &["verify"]), "300 events are sound\n");
    hub.stop();
    assert_eq!(place.ok("data", &["verify"]), "the file and 300 events are sound\n");
}

#[test]
fn a_backup_made_under_load_is_a_log_whose_cursors_stay_good_and_whose_numbers_are_new() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish("{\"topic\": \"a\", \"id\": \"mine\", \"private\": true}\n");
    let load = Load::start(&hub);
    until("there is something", || (place.stat("data")["events"].as_u64() > Some(100)).then_some(()));
    let copy = place.path("copy");
    let said = place.ok("data", &["backup", copy.to_str().unwrap()]);
    assert!(said.contains(" events, ") && said.trim_end().ends_with("/copy"), "{said}");
    let acknowledged = load.stop();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&copy), mode(&copy.join("log.redb"))), (0o700, 0o600));
    let original = place.stat("data");
    let stat = place.stat("copy");
    assert!(stat["backup_at"].as_u64() > Some(1_700_000_000_000), "{stat}");
    assert_eq!(stat["epoch"], original["epoch"]);
    assert!(place.ok("copy", &["verify"]).starts_with("the file and "));
    // It holds a beginning of what was acknowledged, and no more than that.
    let copied = loaded(&place.export("copy", &["--topic", "load"]));
    assert!(copied.len() >= 100 && acknowledged.starts_with(&copied), "{} of {}", copied.len(), acknowledged.len());
    one_line(&place.log("data", &["backup", copy.to_str().unwrap()]), "copy exists");
    hub.stop();
    // Two are restored, as if the first restore had gone wrong.
    let mut shown: Vec<u64> = vec![];
    for name in ["first", "second"] {
        fs::create_dir(place.path(name)).unwrap();
        fs::copy(copy.join("log.redb"), place.path(name).join("log.redb")).unwrap();
        let hub = Hub::start(&place.path(name), &[]);
        let id = hub.publish_numbers("load", 0..1).remove(0);
        // A cursor from before the backup, and one that only the original has shown.
        let told =
            feed(&hub.url, &format!("topic=load&last_event_id={}", copied[copied.len() - 3].0.replace('#', "%23")), 3);
        let (last, events) = (copied.len() - 1, told.iter().filter(|told| told.starts_with('#')).collect::<Vec<_>>());
        assert_eq!(events, [&copied[last - 1].0, &copied[last].0, &id]);
        assert!(told.iter().any(|told| told.starts_with("gap")), "{told:?}");
        let told = feed(
            &hub.url,
            &format!("topic=load&last_event_id={}", acknowledged[acknowledged.len() - 1].0.replace('#', "%23")),
            1,
        );
        assert_eq!(told.len(), 2, "the gap, and what is new: {told:?}");
        let seq = |cursor: &str| cursor.split(':').nth(1).unwrap().parse::<u64>().unwrap();
        assert!(seq(&id) > seq(&acknowledged[acknowledged.len() - 1].0) + (1 << 39));
        assert_eq!(place.stat(name)["backup_at"], Value::Null, "it is a log like any other");
        hub.stop();
        // Only once: the next run goes on right behind.
        let hub = Hub::start(&place.path(name), &[]);
        assert_eq!(seq(&hub.publish_numbers("load", 0..1)[0]), seq(&id) + 1);
        assert!(place.ok(name, &["verify"]).ends_with("events are sound\n"));
        shown.extend([seq(&id), seq(&id) + 1]);
        assert_eq!(place.export(name, &["--topic", "a"])[0]["id"], "mine");
        assert_eq!(
            without_cursors(&place.export(name, &["--topic", "load", "--to", &copied[last].0])).len(),
            copied.len()
        );
    }
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), 4, "no number stands for two events");
}

#[test]
fn a_backup_that_fails_leaves_nothing() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish_numbers("a", 0..10);
    one_line(&place.log("data", &["backup", place.path("no/copy").to_str().unwrap()]), "no/copy can't be made");
    fs::create_dir(place.path("there")).unwrap();
    fs::write(place.path("there/file"), "").unwrap();
    one_line(&place.log("data", &["backup", place.path("there").to_str().unwrap()]), "there exists");
    let mut names: Vec<_> =
        fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["data", "there"]);
    // A relative path is of where the command runs, not the hub.
    let mut backup = command(&["log", "--data-dir"]);
    backup.arg(place.path("data")).args(["backup", "copy"]).current_dir(place.path("there"));
    assert!(run(&mut backup, "").status.success());
    assert!(place.path("there/copy/log.redb").exists());
    hub.stop();
    full_disk(&place);
    let other = place.path("other");
    place.ok("data", &["backup", other.to_str().unwrap()]);
    assert_eq!(place.export("other", &[]), place.export("data", &[]));
}

/// Where a user may have a small disk of its own: in a namespace.
fn full_disk(place: &Place) {
    let script = "mount -t tmpfs -o size=64k none \"$1\" || exit 77
        \"$0\" log --data-dir \"$2\" backup \"$1/copy\"; echo $?
        \"$0\" log --data-dir \"$2\" export -o \"$1/events\"; echo $?; ls -A \"$1\"";
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_fanwire")]);
    fs::create_dir(place.path("small")).unwrap();
    place.ok("data", &["import", &place.write("lines", &"{\"topic\": \"a\"}\n".repeat(3000))]);
    let output = match unshare.args([place.path("small"), place.path("data")]).output() {
        Ok(output) if output.status.code() != Some(77) && !output.stdout.is_empty() => output,
        other => return eprintln!("SKIPPED: a disk that is full, for want of a namespace: {other:?}"),
    };
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), "1\n1\n", "both fail, and leave nothing: {said}");
    assert_eq!(said.matches("No space left on device").count(), 2, "{said}");
    assert!(said.contains("small/events: "), "{said}");
}
