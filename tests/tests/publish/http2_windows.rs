//! What HTTP/2 sends to a client that counts it, frame by frame. [RFC 9113 §5.2]

use std::collections::HashMap;

use fanwire_client::Publication;
use fanwire_tests::{
    TestHub,
    http2::{
        ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, fields, frame, get, greeting,
    },
    soon,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn all_that_a_connection_takes_is_there_for_what_comes_after_a_feed_and_beside_it() {
    let hub = TestHub::start();
    for last_feed_stays in [false, true] {
        let mut client = Client::connect(&hub, 1 << 20).await;
        for stream in [1, 3, 5] {
            client.get(stream, "/events?topic=a").await;
            client.publish(&hub, stream, "x").await;
            if stream < 5 || !last_feed_stays {
                client.send(frame(RST_STREAM, 0, stream, &CANCEL)).await;
            }
        }
        // The client never says that it takes more.
        let mut stream = 5;
        while client.window > 0 {
            stream += 2;
            client.get(stream, "/").await;
            client.until(|client| client.window == 0 || client.ended.contains(&stream)).await;
        }
        client.send(frame(WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes())).await;
        client.window += 100_000;
        client.until(|client| client.ended.contains(&stream)).await;
    }
}

#[tokio::test]
async fn a_feed_gives_back_what_it_may_send_between_a_clients_heads_only() {
    let hub = TestHub::start();
    let mut client = Client::connect(&hub, 1 << 20).await;
    client.get(1, "/events?topic=a").await;
    client.publish(&hub, 1, "x").await;
    let fields = fields("/livez");
    client.windows.insert(3, client.initial_window);
    client.ping_and(&frame(HEADERS, END_STREAM, 3, &fields[..5])).await;
    // Too large to be sent as others are.
    client.publish(&hub, 1, &"y".repeat(20_000)).await;
    client.publish(&hub, 1, "z").await;
    client.send(frame(CONTINUATION, END_HEADERS, 3, &fields[5..])).await;
    client.until(|client| client.ended.contains(&3)).await;
    client.publish(&hub, 1, "z").await;
}

#[tokio::test]
async fn a_feed_keeps_to_a_window_that_becomes_smaller_wherever_the_news_are_cut() {
    let hub = TestHub::start();
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for at in 0..settings.len() {
        let mut client = Client::connect(&hub, 40_000).await;
        client.get(1, "/events?topic=a").await;
        client.publish(&hub, 1, "x").await;
        client.ping_and(&settings[..at]).await;
        client.publish(&hub, 1, "y").await;
        client.smaller_by = 40_000;
        client.send(&settings[at..]).await;
        client.until(|client| client.smaller_by == 0).await;
        for _ in 0..5 {
            hub.publish(&Publication::text("a", "z")).await;
            // What is sent too early comes before the answer.
            client.ping_and(&[]).await;
        }
        client.send(frame(WINDOW_UPDATE, 0, 1, &100_000_u32.to_be_bytes())).await;
        *client.windows.get_mut(&1).unwrap() += 100_000;
        client.until(|client| client.text(1).matches("data: z\n").count() == 5).await;
    }
}

/// A client that takes what it said, and nothing else.
struct Client {
    stream: TcpStream,
    /// What it takes: in all, at first on a stream, and on each.
    window: i64,
    initial_window: i64,
    windows: HashMap<u32, i64>,
    /// So much less once the hub knows.
    smaller_by: i64,
    texts: HashMap<u32, String>,
    ended: Vec<u32>,
    pongs: usize,
}

impl Client {
    async fn connect(hub: &TestHub, window: u32) -> Self {
        let stream = TcpStream::connect(hub.running().http().unwrap()).await.unwrap();
        let mut client = Self {
            stream,
            window: 65_535,
            initial_window: window.into(),
            windows: HashMap::new(),
            smaller_by: 0,
            texts: HashMap::new(),
            ended: vec![],
            pongs: 0,
        };
        client.send(greeting(&[&[0, 4], &window.to_be_bytes()[..]].concat())).await;
        client
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn get(&mut self, stream: u32, path: &str) {
        self.windows.insert(stream, self.initial_window);
        self.send(get(stream, path)).await;
    }

    /// Publishes something, and waits for it on a stream.
    async fn publish(&mut self, hub: &TestHub, stream: u32, text: &str) {
        self.until(|client| !client.text(stream).is_empty()).await;
        hub.publish(&Publication::text("a", text)).await;
        let ending = format!("data: {text}\n\n");
        self.until(|client| client.text(stream).ends_with(&ending)).await;
    }

    /// Sends something that the hub has read once this is over.
    async fn ping_and(&mut self, bytes: &[u8]) {
        let pongs = self.pongs;
        self.send([&frame(PING, 0, 0, &[0; 8]), bytes].concat()).await;
        self.until(|client| client.pongs > pongs).await;
    }

    fn text(&self, stream: u32) -> &str {
        self.texts.get(&stream).map_or("", |text| text)
    }

    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            soon(self.read()).await;
        }
    }

    async fn read(&mut self) {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, flags, stream @ ..] = head;
        let (bytes, stream) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes(stream));
        let mut payload = vec![0; bytes as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        match (kind, flags & ACK) {
            (DATA, _) => {
                let window = self.windows.get_mut(&stream).expect("a stream that was opened");
                self.window -= i64::from(bytes);
                *window -= i64::from(bytes);
                assert!(bytes == 0 || *window >= 0 && self.window >= 0, "{bytes} bytes: {window}, {}", self.window);
                self.texts.entry(stream).or_default().push_str(&String::from_utf8(payload).unwrap());
            }
            (SETTINGS, ACK) => {
                self.windows.values_mut().for_each(|window| *window -= self.smaller_by);
                self.smaller_by = 0;
            }
            (PING, ACK) => self.pongs += 1,
            (RST_STREAM | GOAWAY, _) => panic!("frame {kind} on {stream}: {payload:?}"),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.ended.push(stream);
        }
    }
}
