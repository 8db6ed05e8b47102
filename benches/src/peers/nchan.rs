//! nginx with nchan.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fanwire_bench::{contest::Started, load::Style, server::Server};

pub(super) fn is_installed() -> bool {
    Path::new(NGINX).exists() && Path::new(MODULE).exists()
}

pub(super) fn start() -> Result<Started> {
    ensure!(is_installed(), "nchan isn't installed: apt-get install nginx-light libnginx-mod-nchan");
    let state = tempfile::tempdir()?;
    // nginx takes no port 0.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let file = state.path().join("nginx.conf");
    fs::write(&file, configuration(state.path(), address))?;
    let file = file.to_str().context("the directory for temporary files has a name that isn't text")?;
    let (mut server, _) = Server::start(Path::new(NGINX), &["-e", "stderr", "-c", file], &[])?;
    server.keep(state);
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < deadline, "nginx doesn't listen: {}", server.complaints().join("; "));
        std::thread::yield_now();
    }
    Ok(Started {
        server: Some(server),
        access: super::OURS,
        feed: format!("http://{address}/sub"),
        publish: format!("http://{address}/pub"),
        style: Style::Raw,
    })
}

fn configuration(state: &Path, address: std::net::SocketAddr) -> String {
    let state = state.display();
    format!(
        "load_module {MODULE};
        # Only root can have another user, and only root needs one: this one's directory is closed to others.
        {user}
        daemon off;
        worker_processes {workers};
        worker_rlimit_nofile 20000;
        pid {state}/pid;
        error_log stderr error;
        events {{ worker_connections 20000; }}
        http {{
            access_log off;
            client_body_temp_path {state}/body;
            proxy_temp_path {state}/proxy;
            fastcgi_temp_path {state}/fastcgi;
            uwsgi_temp_path {state}/uwsgi;
            scgi_temp_path {state}/scgi;
            tcp_nodelay on;
            keepalive_requests 1000000;
            server {{
                listen {address} backlog=4096;
                location = /sub {{ nchan_subscriber eventsource; nchan_channel_id bench; }}
                location = /pub {{ nchan_publisher; nchan_channel_id bench; }}
            }}
        }}
        ",
        user = if rustix::process::geteuid().is_root() { "user root;" } else { "" },
        workers = WORKERS,
    )
}

const NGINX: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
const WORKERS: &str = "auto";
const START_MAX: Duration = Duration::from_secs(5);
