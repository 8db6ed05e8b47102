//! Which log, and who does the work: the hub that serves it, or this process where none does.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    config::Config,
    hub,
    local::{self, Client, SOCKET},
    log::{
        DiskLogError, OpenError,
        admin::{AdminError, StoppedLog},
    },
};

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The directory that the log is in, as of `fanwire serve`
    #[arg(long, env = "FANWIRE_DATA_DIR", value_name = "DIR", global = true, help_heading = HEADING)]
    data_dir: Option<PathBuf>,

    /// Take data_dir from this TOML file
    #[arg(long, env = "FANWIRE_CONFIG", value_name = "FILE", global = true, help_heading = HEADING)]
    config: Option<PathBuf>,
}

impl Place {
    /// `check_file`: where no hub runs, checks the log's file before anything in it is trusted.
    pub(super) async fn open(&self, check_file: bool) -> Result<Client> {
        let directory = Config::data_dir(self.data_dir.clone(), self.config.as_deref())?;
        let began = Instant::now();
        loop {
            if let Some(client) = connect(&directory).await? {
                return Ok(client);
            }
            match StoppedLog::open(&directory, check_file) {
                Ok(log) => {
                    let event = fanwire_protocol::Limits { data_bytes_max: EVENT_BYTES_MAX, ..Default::default() };
                    let limits = hub::Limits { event, ..Default::default() };
                    return Ok(Client::Here(local::router(Arc::new(log), limits)));
                }
                // A hub takes the log first, and then makes its socket.
                Err(error) if is_in_use(&error) && began.elapsed() < STARTING_MAX => tokio::time::sleep(PAUSE).await,
                Err(error) if is_in_use(&error) => {
                    let socket = directory.join(SOCKET);
                    bail!("{} is in use, and no hub answers on {}", directory.display(), socket.display());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn connect(directory: &Path) -> Result<Option<Client>> {
    let socket = || directory.join(SOCKET);
    match Client::connect(directory).await {
        Ok(client) => Ok(Some(client)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => Ok(None),
            io::ErrorKind::PermissionDenied => {
                bail!("{} is another user's: only who runs the hub may use it", socket().display())
            }
            _ => Err(error).with_context(|| format!("can't connect to {}", socket().display())),
        },
    }
}

fn is_in_use(error: &AdminError) -> bool {
    matches!(error, AdminError::Open(DiskLogError::Store { source: OpenError::InUse, .. }))
}

const HEADING: &str = "Which log";
/// What any hub may be told to take.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;
const STARTING_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
