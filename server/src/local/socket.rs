//! The socket in the data directory.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, net},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::telemetry::{Limit, Metrics};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};

/// Its name in the data directory.
pub const SOCKET: &str = "hub.sock";

/// A socket that is bound; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds the socket in a data directory, in place of one that a hub left which was killed. The caller holds the lock on the directory's
    /// log, so there is no living hub there. Only this user may connect.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        // Bound where nobody else may look, so that there is no moment at which its mode is wider.
        let private = directory.join(format!(".{SOCKET}.new"));
        make_private(&private)?;
        let bound = bind_in(&private, &path);
        fs::remove_dir_all(&private)?;
        Ok(Self { listener: UnixListener::from_std(bound?)?, path })
    }

    /// Serves what comes, until it is dropped. `head_time_max`: how long the head of a request may take to arrive, and a connection stay without
    /// one.
    pub async fn serve(self, router: Router, head_time_max: Duration, metrics: Arc<Metrics>) {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted on {}", self.path.display());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if seats.available_permits() == 0 {
                metrics.reached(Limit::OperatorConnections);
            }
            // Further ones wait in the system's queue.
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            let (service, metrics) = (TowerToHyperService::new(router.clone()), metrics.clone());
            connections.spawn(async move {
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(head_time_max);
                if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                    if error.is_timeout() {
                        metrics.reached(Limit::HeadTime);
                    }
                    tracing::debug!(%error, "a connection of the operator's ended");
                }
                drop(seat);
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The log's lock is still held: this is no other hub's.
        let _ = fs::remove_file(&self.path);
    }
}

/// Connects to the hub of a data directory.
pub(super) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let path = directory.join(SOCKET);
    match short(&path)? {
        Some((_directory, short)) => UnixStream::connect(short).await,
        None => UnixStream::connect(path).await,
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(directory)
}

fn bind_in(private: &Path, path: &Path) -> io::Result<net::UnixListener> {
    let bound = private.join(SOCKET);
    let listener = match short(&bound)? {
        Some((_directory, short)) => net::UnixListener::bind(short)?,
        None => net::UnixListener::bind(&bound)?,
    };
    fs::set_permissions(&bound, Permissions::from_mode(0o600))?;
    fs::rename(&bound, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Another path to a socket whose own is too long for a socket's address, which has 108 bytes. Good for as long as the directory is held.
fn short(path: &Path) -> io::Result<Option<(File, PathBuf)>> {
    if path.as_os_str().as_bytes().len() < PATH_BYTES_MAX {
        return Ok(None);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let directory = File::open(parent)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(Some((directory, short)))
}

/// Some systems have less than Linux's 108.
const PATH_BYTES_MAX: usize = 100;
/// Who asks beyond these waits.
const CONNECTIONS_MAX: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
