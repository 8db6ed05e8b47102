//! No room is left.

use fanwire_tests::Mount;
use tokio::task::LocalSet;

use crate::watched::Watched;

/// A disk may have room for less.
const LARGE: usize = 20_000;

#[tokio::test]
async fn a_disk_that_the_hub_has_filled_itself() {
    let Some(disk) = Mount::tmpfs("a_disk_that_the_hub_has_filled_itself", 8) else { return };
    let test = async {
        let mut watched = Watched::start(&disk).await;
        watched.publish_until_refused(LARGE).await;
        watched.is_in_trouble(LARGE).await;
        disk.remount("size=64m");
        watched.recovers().await;
        watched.crashes().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_disk_that_another_has_filled() {
    let Some(disk) = Mount::tmpfs("a_disk_that_another_has_filled", 32) else { return };
    let test = async {
        let mut watched = Watched::start(&disk).await;
        for _ in 0..3 {
            let filler = disk.fill();
            watched.publish_until_refused(LARGE).await;
            watched.is_in_trouble(LARGE).await;
            std::fs::remove_file(filler).unwrap();
            watched.recovers().await;
        }
        watched.crashes().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_hub_that_crashes_on_a_full_disk() {
    let Some(disk) = Mount::tmpfs("a_hub_that_crashes_on_a_full_disk", 32) else { return };
    let test = async {
        let mut watched = Watched::start(&disk).await;
        let filler = disk.fill();
        watched.publish_until_refused(LARGE).await;
        watched.hub.crash();
        // It can't be repaired without room, and says so, or is there and takes nothing.
        if let Err(refused) = watched.hub.try_again() {
            let said = refused.to_string();
            assert!(said.contains("log.redb") && said.contains("No space left on device"), "{said}");
        } else {
            watched.hub.crash();
        }
        std::fs::remove_file(filler).unwrap();
        watched.hub.again();
        watched.newcomers("after a crash");
        watched.publish(10).await.expect("the disk is well");
        watched.crashes().await;
    };
    LocalSet::new().run_until(test).await;
}
