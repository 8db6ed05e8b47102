use super::*;
use crate::{
    PINNED_PERIOD_MAX,
    testing::{DAY, ec_fixture, fixture, start},
};
use std::{collections::HashSet, fs, sync::Barrier, thread};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn directory() -> (TempDir, DevDirectory) {
    let parent = tempfile::tempdir().unwrap();
    let directory = DevDirectory::new(parent.path().join("state/fanwire"));
    (parent, directory)
}

fn names(texts: &[&str]) -> Vec<SubjectName> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn is_what_browsers_accept_by_its_hash() {
    let identity = issue_dev_identity(&names(&["devbox.lan", "10.0.0.7"]), start()).unwrap();
    assert!(identity.is_pinnable());
    assert_eq!(identity.not_before(), start() - HOUR);
    assert_eq!(identity.not_after(), start() + 13 * DAY);
    assert!(identity.not_after().duration_since(identity.not_before()).unwrap() < PINNED_PERIOD_MAX);
    let has: HashSet<_> = identity.names().into_iter().collect();
    assert_eq!(has, names(&["localhost", "127.0.0.1", "::1", "devbox.lan", "10.0.0.7"]).into_iter().collect());
}

#[test]
fn a_fraction_of_a_second_makes_it_no_longer() {
    let identity = issue_dev_identity(&[], start() + Duration::from_millis(999)).unwrap();
    assert_eq!(identity.not_after(), start() + 13 * DAY);
}

#[test]
fn times_that_no_certificate_can_tell_are_refused() {
    let far = start() + Duration::from_secs(8_000 * 365 * 24 * 60 * 60);
    for now in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH - DAY, far] {
        assert!(matches!(issue_dev_identity(&[], now), Err(IssueError::Clock)), "{now:?}");
    }
}

#[test]
fn is_kept_between_runs() {
    let (_parent, directory) = directory();
    let first = directory.load(start()).unwrap();
    let written = fs::metadata(directory.file()).unwrap().modified().unwrap();
    let second = DevDirectory::new(directory.path()).load(start() + 9 * DAY).unwrap();
    assert_eq!(first.hashes(), second.hashes());
    assert_eq!(second.hashes(), [second.current().fingerprint()]);
    assert_eq!(fs::metadata(directory.file()).unwrap().modified().unwrap(), written);
}

#[test]
fn the_successor_is_announced_a_day_before_it_takes_over() {
    let (_parent, directory) = directory();
    let first = directory.load(start()).unwrap();

    let announced = directory.load(start() + 9 * DAY + HOUR).unwrap();
    assert_eq!(announced.current().fingerprint(), first.current().fingerprint());
    let [_, next] = announced.hashes()[..] else { panic!("{:?}", announced.hashes()) };

    let still = directory.load(start() + 10 * DAY).unwrap();
    assert_eq!(still.hashes(), announced.hashes());

    let rotated = directory.load(start() + 10 * DAY + HOUR).unwrap();
    assert_eq!(rotated.hashes(), [next]);
}

#[test]
fn hashes_fetched_within_the_last_day_always_hold() {
    let (_parent, directory) = directory();
    let mut fetched: Vec<(u32, Vec<Fingerprint>)> = Vec::new();
    let mut served = HashSet::new();
    for hour in 0..60 * 24 {
        let now = start() + hour * HOUR;
        let loaded = directory.load(now).unwrap();
        assert_eq!(loaded.current().warning(now), None);
        fetched.retain(|(at, _)| hour - at < 24);
        for (at, hashes) in &fetched {
            assert!(hashes.contains(&loaded.current().fingerprint()), "fetched at hour {at}, broken at hour {hour}");
        }
        fetched.push((hour, loaded.hashes()));
        served.insert(loaded.current().fingerprint());
    }
    // One every nine days and an hour.
    assert_eq!(served.len(), 7);
}

#[test]
fn one_that_nobody_looked_after_is_replaced_at_once() {
    for late in [10 * DAY + HOUR, 13 * DAY, 400 * DAY] {
        let (_parent, directory) = directory();
        let first = directory.load(start()).unwrap();
        let second = directory.load(start() + late).unwrap();
        assert_ne!(first.current().fingerprint(), second.current().fingerprint());
        assert_eq!(second.hashes().len(), 1);
    }
}

#[test]
fn a_clock_set_back_makes_a_new_one() {
    let (_parent, directory) = directory();
    directory.load(start()).unwrap();
    let now = start() - DAY;
    assert_eq!(directory.load(now).unwrap().current().warning(now), None);
}

#[test]
fn names_asked_for_are_added_and_none_is_lost() {
    let (_parent, directory) = directory();
    directory.load(start()).unwrap();
    let [one, other] = ["one.lan", "other.lan"].map(|name| directory.clone().with_names(names(&[name])));
    one.load(start()).unwrap();
    let both = other.load(start()).unwrap();
    for directory in [&one, &other, &directory] {
        assert_eq!(directory.load(start()).unwrap().hashes(), both.hashes());
    }
}

#[test]
fn more_names_than_the_limit_are_refused() {
    let (_parent, directory) = directory();
    let many = (0..NAMES_MAX).map(|n| format!("n{n}.lan").parse().unwrap());
    let error = directory.with_names(many).load(start()).unwrap_err();
    assert!(matches!(error, DevError::Issue { source: IssueError::TooManyNames { count: 67 }, .. }), "{error}");
}

#[test]
fn names_of_before_give_way_at_the_limit() {
    let (_parent, directory) = directory();
    let many = |of: &str| (0..50).map(|n| format!("n{n}.{of}").parse().unwrap()).collect::<Vec<_>>();
    directory.clone().with_names(many("one")).load(start()).unwrap();
    let second = directory.with_names(many("other")).load(start()).unwrap();
    assert_eq!(second.current().names().len(), 53);
}

#[test]
fn garbage_is_replaced() {
    let foreign = fixture("ec.cert.pem") + &fixture("ec.pkcs8.pem");
    let without_key = fixture("ec.cert.pem");
    let large = "x".repeat(64 * 1024 + 1);
    for garbage in [&b"\xff\xfe"[..], b"garbage", foreign.as_bytes(), without_key.as_bytes(), large.as_bytes()] {
        let (_parent, directory) = directory();
        directory.load(start()).unwrap();
        fs::write(directory.file(), garbage).unwrap();
        let fresh = directory.load(start()).unwrap();
        assert_ne!(fresh.current().fingerprint(), ec_fixture().fingerprint());
        assert_eq!(directory.load(start()).unwrap().hashes(), fresh.hashes());
    }
}

#[test]
fn an_empty_file_is_replaced() {
    let (_parent, directory) = directory();
    directory.load(start()).unwrap();
    fs::write(directory.file(), "").unwrap();
    let fresh = directory.load(start()).unwrap();
    assert_eq!(directory.load(start()).unwrap().hashes(), fresh.hashes());
}

#[test]
fn a_damaged_current_identity_leaves_its_successor_whole() {
    let (_parent, directory) = directory();
    directory.load(start()).unwrap();
    let now = start() + 9 * DAY + HOUR;
    let [_, next] = directory.load(now).unwrap().hashes()[..] else { panic!() };
    let text = fs::read_to_string(directory.file()).unwrap();
    fs::write(directory.file(), text.replacen("-----BEGIN CERTIFICATE-----\nM", "-----BEGIN CERTIFICATE-----\nX", 1))
        .unwrap();
    assert_eq!(directory.load(now).unwrap().hashes(), [next]);
}

#[test]
fn other_files_are_let_alone() {
    let (_parent, directory) = directory();
    fs::create_dir_all(directory.path()).unwrap();
    let other = directory.path().join("cert.pem");
    fs::write(&other, "mine").unwrap();
    fs::write(directory.path().join("dev-identity.pem.tmp"), "of a process that died").unwrap();
    directory.load(start()).unwrap();
    assert_eq!(fs::read_to_string(other).unwrap(), "mine");
    assert!(!directory.path().join("dev-identity.pem.tmp").exists());
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_the_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (_parent, directory) = directory();
    let first = directory.load(start()).unwrap();
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(&directory.file()), 0o600);

    fs::set_permissions(directory.file(), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(directory.load(start()).unwrap().hashes(), first.hashes());
    assert_eq!(mode(&directory.file()), 0o600);
}

#[test]
fn errors_name_the_path() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DevDirectory::new(&file).load(start()).unwrap_err();
    assert!(matches!(&error, DevError::Read { path, .. } if path.starts_with(&file)), "{error}");

    let directory = DevDirectory::new(parent.path());
    fs::create_dir(directory.file()).unwrap();
    let error = directory.load(start()).unwrap_err();
    assert_eq!(error.to_string(), format!("can't read {}", directory.file().display()));
    fs::remove_dir(directory.file()).unwrap();

    let temporary = parent.path().join("dev-identity.pem.tmp");
    fs::create_dir(&temporary).unwrap();
    let error = directory.load(start()).unwrap_err();
    assert_eq!(error.to_string(), format!("can't write {}", temporary.display()));
    fs::remove_dir(temporary).unwrap();

    let lock = parent.path().join("dev-identity.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let error = directory.load(start()).unwrap_err();
    assert_eq!(error.to_string(), format!("can't lock {}", lock.display()));
}

#[test]
fn whoever_starts_at_the_same_time_gets_the_same_identity() {
    const STARTERS: usize = 8;
    let (_parent, directory) = directory();
    // The second round finds a file that is due, the third a damaged one.
    for (round, now) in [start(), start() + 20 * DAY, start() + 21 * DAY].into_iter().enumerate() {
        if round == 2 {
            fs::write(directory.file(), "garbage").unwrap();
        }
        let barrier = Barrier::new(STARTERS);
        let seen: HashSet<_> = thread::scope(|scope| {
            let starters: Vec<_> = (0..STARTERS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        // Each has a lock of its own file description, as another process would.
                        directory.load(now).unwrap().hashes()
                    })
                })
                .collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert_eq!(seen.len(), 1, "round {round}");
    }
}

#[test]
fn what_is_settled_needs_no_lock() {
    let (_parent, directory) = directory();
    let first = directory.load(start()).unwrap();
    let _held = Store::new(directory.path()).lock().unwrap();
    assert_eq!(directory.load(start()).unwrap().hashes(), first.hashes());
}
