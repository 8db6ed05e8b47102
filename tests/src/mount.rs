//! A small disk of a test's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A file system, which is unmounted when it is dropped. Only root may mount.
#[derive(Debug)]
pub struct Mount {
    /// Dropped after the mount is gone.
    directory: tempfile::TempDir,
    /// What it is stored in, if not in memory.
    image: Option<tempfile::NamedTempFile>,
}

impl Mount {
    /// A tmpfs of so many MiB. None, and a word about it on standard error, where this process may not mount; the test is skipped then.
    ///
    /// # Panics
    /// If root can't mount.
    pub fn tmpfs(test: &str, mib: usize) -> Option<Self> {
        let mount = Self::prepare(test)?;
        let options = format!("size={mib}m,mode=700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(mount.path()));
        Some(mount)
    }

    /// An ext4 of 64 MiB that becomes read-only when it has an error: see [`Mount::break_down`]. None as with [`Mount::tmpfs`], and where
    /// the system has no ext4 or no loop device.
    pub fn ext4(test: &str) -> Option<Self> {
        let mut mount = Self::prepare(test)?;
        let image = tempfile::NamedTempFile::new().expect("a file");
        image.as_file().set_len(64 << 20).expect("room for it");
        let made = Command::new("mkfs.ext4").arg("-q").arg(image.path()).output();
        mount.image = Some(image);
        if !made.is_ok_and(|made| made.status.success()) || !mount.mount_image() {
            skip(test, "ext4 on a loop device can't be made here");
            return None;
        }
        Some(mount)
    }

    /// Lets ext4 find an error, upon which it takes no more writes, as it does when a real disk has one.
    ///
    /// # Panics
    /// If it isn't one of [`Mount::ext4`].
    pub fn break_down(&self) {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
        let path = self.path().to_str().expect("text");
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(path)).expect("it is mounted");
        let device = line.split(' ').next().and_then(|device| device.strip_prefix("/dev/")).expect("a device");
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").expect("ext4");
    }

    /// Repairs and mounts it again. Nobody may have a file of it open.
    ///
    /// # Panics
    /// If it can't be repaired.
    pub fn repair(&self) {
        run(Command::new("umount").arg(self.path()));
        let image = self.image.as_ref().expect("an ext4");
        // Its status says that it has corrected something.
        let _ = Command::new("fsck.ext4").args(["-p", "-f"]).arg(image.path()).output();
        assert!(self.mount_image(), "it can be mounted again");
    }

    fn prepare(test: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "only root may mount a small disk");
            return None;
        }
        Some(Self { directory: tempfile::tempdir().expect("a directory"), image: None })
    }

    fn mount_image(&self) -> bool {
        let Some(image) = &self.image else { return false };
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,errors=remount-ro"]).arg(image.path()).arg(self.path());
        mount.output().is_ok_and(|output| output.status.success())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes it larger or smaller (`size=…`), read-only (`ro`) or writable (`rw`); read-only only if nobody writes a file of it.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()));
    }

    /// Fills what is left of it with a file of its own; deleting that gives the room back.
    ///
    /// # Panics
    /// If nothing can be written at all.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).expect("a file");
        let chunk = [1; 4096];
        while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a hub that is being killed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Says past the captured output of a test that it is skipped, and why.
fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    effective == Some("0")
}

fn run(command: &mut Command) {
    let output = command.output().expect("mount is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
