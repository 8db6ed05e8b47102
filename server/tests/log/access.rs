//! Who may, and how the log is found.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener,
    },
};

use crate::support::{Hub, Place, command, events, ok, one_line, run, text};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_its_user_may_read_the_log_and_ask_its_hub() {
    let place = Place::new();
    let data = place.path("data");
    // As wide as a umask can be.
    let mut shell = std::process::Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_fanwire");
    let script = "umask 000; exec \"$0\" serve --http 127.0.0.1:0 --https off --no-demo --data-dir \"$1\"";
    let mut hub = shell.args(["-c", script, binary]).arg(&data).stdout(std::process::Stdio::piped()).spawn().unwrap();
    crate::support::until("the socket is there", || data.join("hub.sock").exists().then_some(()));
    let modes = (mode(&data), mode(&data.join("log.redb")), mode(&data.join("hub.sock")));
    let is_socket = fs::metadata(data.join("hub.sock")).unwrap().file_type().is_socket();
    let names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let out = place.path("out");
    place.ok("data", &["export", "-o", out.to_str().unwrap()]);
    hub.kill().unwrap();
    hub.wait().unwrap();
    assert_eq!(modes, (0o700, 0o600, 0o600));
    assert!(is_socket);
    assert_eq!(names.len(), 2, "nothing else is left: {names:?}");
    assert_eq!(mode(&out), 0o600, "private events are in it");
}

#[test]
fn a_killed_hubs_socket_is_in_nobodys_way_and_a_stopped_hubs_is_gone() {
    let place = Place::new();
    let hub = Hub::start(&place.path("data"), &[]);
    hub.publish_numbers("a", 0..3);
    assert_eq!(place.stat("data")["is_served"], true);
    hub.kill();
    assert!(place.path("data").join("hub.sock").exists());
    let stat = place.stat("data");
    assert_eq!((&stat["is_served"], &stat["events"]), (&false.into(), &3.into()));
    let hub = Hub::start(&place.path("data"), &[]);
    assert_eq!(place.stat("data")["is_served"], true);
    hub.stop();
    assert!(!place.path("data").join("hub.sock").exists());
    assert_eq!(place.stat("data")["is_served"], false);
}

#[test]
fn a_hub_that_is_gone_in_the_middle_or_says_something_else_is_told_in_one_line() {
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    let listener = UnixListener::bind(place.path("data").join("hub.sock")).unwrap();
    let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (arguments, answer, said) in [
        ("stat", "", "the hub was gone before it had finished\n"),
        ("verify", cut, "the hub was gone before it had finished\n"),
        ("stat", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "of one version?: missing field"),
    ] {
        let hub = listener.try_clone().unwrap();
        let hub = std::thread::spawn(move || {
            let (mut stream, _) = hub.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            assert!(request.any(|line| line.unwrap().is_empty()));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        one_line(&place.log("data", &[arguments]), said);
        hub.join().unwrap();
    }
}

#[test]
fn a_directory_with_a_long_name_is_served_too() {
    let place = Place::new();
    let name = format!("{}/{}", "d".repeat(120), "e".repeat(120));
    let hub = Hub::start(&place.path(&name), &[]);
    hub.publish_numbers("a", 0..3);
    assert_eq!(place.stat(&name)["is_served"], true);
    assert_eq!(place.export(&name, &[]).len(), 3);
}

#[test]
fn the_log_is_named_as_the_hub_is_told_it() {
    let place = Place::new();
    Hub::start(&place.path("data"), &[]).publish_numbers("a", 0..1);
    let data = place.path("data");
    let config = place.write("fanwire.toml", &format!("http = 'off'\ndata_dir = {data:?}\n"));
    let export = |command: &mut std::process::Command| events(&ok(run(command, ""))).len();
    assert_eq!(export(command(&["log", "export", "--data-dir"]).arg(&data)), 1);
    assert_eq!(export(command(&["log", "export"]).env("FANWIRE_DATA_DIR", &data)), 1);
    assert_eq!(export(&mut command(&["log", "export", "--config", &config])), 1);
    one_line(&run(&mut command(&["log", "export"]), ""), "--data-dir");
}

#[test]
fn what_is_no_log_and_what_is_in_use_is_said() {
    let place = Place::new();
    one_line(&place.log("nowhere", &["stat"]), "there is no log in");
    assert!(!place.path("nowhere").exists());
    let file = place.write("file", "x");
    one_line(&place.log("file", &["stat"]), &file);
    fs::create_dir(place.path("other")).unwrap();
    fs::write(place.path("other").join("log.redb"), "no database").unwrap();
    one_line(&place.log("other", &["stat"]), "log.redb can't be opened");
    let empty = redb::Database::create(place.path("other").join("empty")).unwrap();
    drop(empty);
    fs::rename(place.path("other").join("empty"), place.path("other").join("log.redb")).unwrap();
    one_line(&place.log("other", &["stat"]), "it holds something else, or nothing");
    // Another program than a hub has it.
    drop(Hub::start(&place.path("data"), &[]));
    let held = redb::Database::open(place.path("data").join("log.redb")).unwrap();
    one_line(&place.log("data", &["stat"]), "is in use, and no hub answers on");
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let transaction = held.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(held);
    one_line(&place.log("data", &["stat"]), "run a newer hub");
}

#[test]
fn nothing_changes_in_a_log_that_is_looked_at() {
    let place = Place::new();
    let retention = ["--retention", "name=ticks;topics=ticks/*;events_max=2"];
    let hub = Hub::start(&place.path("data"), &retention);
    hub.publish_numbers("ticks/a", 0..5);
    hub.publish_numbers("b", 0..2);
    hub.stop();
    let file = place.path("data").join("log.redb");
    let before = fs::read(&file).unwrap();
    // Without the hub's configuration, its classes are the log's own.
    let stat = place.stat("data");
    let class = |n: usize| (&stat["classes"][n]["name"], &stat["classes"][n]["events"], &stat["classes"][n]["floor"]);
    assert_eq!(class(0), (&"ticks".into(), &2.into(), &3.into()));
    assert_eq!(class(1), (&"default".into(), &2.into(), &0.into()));
    assert_eq!(stat["classes"][0]["topics"][0], "ticks/*");
    assert_eq!(place.export("data", &[]).len(), 4);
    assert!(text(&place.log("data", &["stat"]).stdout).contains("ticks"));
    assert_eq!(fs::read(&file).unwrap(), before);
}
