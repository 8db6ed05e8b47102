//! The file system becomes read-only, as Linux does to one that has errors.

use fanwire_tests::{HubProcess, Mount};
use tokio::task::LocalSet;

use crate::watched::Watched;

#[tokio::test]
async fn a_disk_that_takes_no_more_writes() {
    let Some(disk) = Mount::ext4("a_disk_that_takes_no_more_writes") else { return };
    let test = async {
        let mut watched = Watched::start(&disk).await;
        disk.break_down();
        watched.is_in_trouble(100).await;
        watched.hub.logs(&["Read-only file system", "log.redb"]).await;
        // Only a file system that nobody uses can be repaired.
        watched.hub.crash();
        let refused = watched.hub.try_again().unwrap_err().to_string();
        assert!(refused.contains("Read-only file system") && refused.contains("log.redb"), "{refused}");
        disk.repair();
        watched.hub.again();
        watched.crashes().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_disk_that_is_mounted_read_only() {
    let Some(disk) = Mount::tmpfs("a_disk_that_is_mounted_read_only", 16) else { return };
    disk.remount("ro");
    let refused = HubProcess::try_start(&disk.path().join("data"), &[]).unwrap_err().to_string();
    assert!(refused.contains("/data") && refused.contains("Read-only file system"), "{refused}");
    disk.remount("rw");
    let mut hub = HubProcess::start(&disk.path().join("data"), &[]);
    hub.crash();
    disk.remount("ro");
    let refused = hub.try_again().unwrap_err().to_string();
    assert!(refused.contains("log.redb") && refused.contains("Read-only file system"), "{refused}");
    disk.remount("rw");
    hub.again();
}

#[tokio::test]
async fn a_disk_that_is_gone_for_a_while() {
    let Some(disk) = Mount::tmpfs("a_disk_that_is_gone_for_a_while", 8) else { return };
    let test = async {
        let mut watched = Watched::start(&disk).await;
        watched.publish_until_refused(20_000).await;
        // As if its disk had been unmounted: a new log in this place would give the same numbers again.
        std::fs::rename(disk.path().join("data/log.redb"), disk.path().join("data/aside")).unwrap();
        disk.remount("size=64m");
        watched.is_in_trouble(100).await;
        assert!(!disk.path().join("data/log.redb").exists());
        std::fs::rename(disk.path().join("data/aside"), disk.path().join("data/log.redb")).unwrap();
        watched.recovers().await;
    };
    LocalSet::new().run_until(test).await;
}
