//! A hub for one test.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use fanwire::{
    app::{App, Running},
    config::{Config, Layer},
};
use fanwire_certs::{Identity, Source, SubjectName, issue_dev_identity};
use fanwire_client::{CertificateHash, HttpVersion, Options, Publication, Published, Publisher, Token, Trust};
use fanwire_protocol::{Data, Draft, EventId, Topic};

/// A running hub.
#[derive(Debug)]
pub struct TestHub {
    running: Running,
    /// Outlives the hub.
    _data_dir: Option<tempfile::TempDir>,
}

impl TestHub {
    /// A hub as it comes, on ports of its own.
    pub fn start() -> Self {
        Self::with(|_| ())
    }

    /// A hub whose configuration is changed first.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let any_port = Some("127.0.0.1:0".to_owned());
        let layer = Layer {
            http: any_port.clone(),
            https: any_port,
            no_demo: Some(true),
            shards: Some(2),
            dev_identity_dir: Some(std::env::temp_dir()),
            ..Layer::default()
        };
        let mut config = Config::load(layer).expect("a valid configuration");
        config.identity = Some(Source::Fixed(identity().clone()));
        // Tests don't wait for a second where a tenth will do.
        config.limits.heartbeat_min = Duration::from_millis(100);
        let data_dir = on_disk().then(|| tempfile::tempdir().expect("a directory"));
        config.data_dir = data_dir.as_ref().map(|directory| directory.path().to_owned());
        change(&mut config);
        let running = App::bind(config).and_then(App::start).expect("a hub that starts");
        Self { running, _data_dir: data_dir }
    }

    /// The hub in this process.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The hub, to be drained.
    pub fn into_running(self) -> Running {
        self.running
    }

    /// `http://…/events`
    pub fn http_url(&self) -> String {
        format!("http://{}/events", self.running.http().expect("it serves http"))
    }

    /// `https://…/events`
    pub fn https_url(&self) -> String {
        format!("https://{}/events", self.running.https().expect("it serves https"))
    }

    /// Options of a client that trusts this hub's certificate.
    pub fn options(&self, url: &str) -> Options {
        let hash = CertificateHash(*identity().fingerprint().as_bytes());
        Options::new(url).expect("a URL").trust(Trust::Pinned(vec![hash]))
    }

    /// A publisher over HTTP/1.1.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.options(&self.http_url()), HttpVersion::H1)
    }

    /// A publisher with a token, over HTTP/1.1.
    pub fn publisher_with(&self, token: Token) -> Publisher {
        Publisher::new(self.options(&self.http_url()).token(token), HttpVersion::H1)
    }

    /// Publishes over HTTP.
    pub async fn publish(&self, publication: &Publication) -> Published {
        self.publisher().publish(publication).await.expect("published")
    }

    /// Publishes numbered texts straight into the hub, in order.
    pub async fn publish_numbers(&self, topic: &str, numbers: std::ops::Range<usize>) {
        for first in numbers.clone().step_by(BATCH) {
            let drafts = (first..numbers.end.min(first + BATCH)).map(|number| draft(topic, &number.to_string(), None));
            self.running.hub().publish("", drafts.collect()).await.expect("published");
        }
    }

    /// Publishes a text with a publisher's id straight into the hub.
    pub async fn publish_with_id(&self, topic: &str, text: &str, id: &str) {
        self.running.hub().publish("", vec![draft(topic, text, Some(id))]).await.expect("published");
    }
}

/// Whether the hubs of this run keep their logs on disk: `TESTS_LOG=disk`.
fn on_disk() -> bool {
    std::env::var_os("TESTS_LOG").is_some_and(|log| log == "disk")
}

fn draft(topic: &str, text: &str, id: Option<&str>) -> fanwire::hub::Publication {
    let mut draft = Draft::new(vec![Topic::new(topic).expect("a topic")], Data::text(text)).expect("a draft");
    draft.id = id.map(|id| EventId::new(id).expect("an id"));
    fanwire::hub::Publication { draft, key: None }
}

/// The certificate of every test's hub.
pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| issue_dev_identity(&SubjectName::of_this_machine(), SystemTime::now()).expect("an identity"))
}

const BATCH: usize = 500;
