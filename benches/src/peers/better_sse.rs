//! npm better-sse, on node.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fanwire_bench::server::Server;

/// Its directory has what npm installed.
pub(super) fn is_installed() -> bool {
    directory().join("node_modules/better-sse").exists()
}

/// Its process, where it listens for HTTP, and its feed.
pub(super) fn process() -> Result<(Server, Vec<String>)> {
    ensure!(is_installed(), "better-sse isn't installed: npm ci in {}", directory().display());
    Server::start(Path::new("node"), &[directory().join("serve.mjs")], &["http://", "feed="])
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("better-sse")
}
