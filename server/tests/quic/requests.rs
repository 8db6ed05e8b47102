//! Ordinary requests, and the connection that carries them.

use std::{thread, time::Duration};

use fanwire::transport::quic::{ConnectionError, StreamEnd, connection::Limits, endpoint};
use http::{Request, StatusCode};
use quinn::VarInt;

use crate::support::{Http3, Report, Server, body, reset_code, run};

#[test]
fn a_body_larger_than_every_window_goes_both_ways() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let request = Request::post("https://127.0.0.1/echo").body(()).unwrap();
        let stream = http3.send(request).await;
        let (mut send, mut recv) = stream.split();
        let sent: Vec<u8> = (0..2 * 1024 * 1024_u32).map(|i| i.to_le_bytes()[0]).collect();
        let sending = async {
            send.send_data(bytes::Bytes::from(sent.clone())).await.unwrap();
            send.finish().await.unwrap();
        };
        let receiving = async {
            assert_eq!(recv.recv_response().await.unwrap().status(), StatusCode::OK);
            let mut got = Vec::new();
            while let Some(piece) = recv.recv_data().await.unwrap() {
                got.extend_from_slice(bytes::Buf::chunk(&piece));
            }
            got
        };
        let ((), got) = tokio::join!(sending, receiving);
        assert!(got == sent);
    });
}

#[test]
fn a_body_of_one_byte_frames_arrives_whole() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut stream = http3.send(Request::post("https://127.0.0.1/echo").body(()).unwrap()).await;
        for _ in 0..2000 {
            // An empty frame must not pass for the body's end.
            stream.send_data(bytes::Bytes::new()).await.unwrap();
            stream.send_data(bytes::Bytes::from_static(b"x")).await.unwrap();
        }
        stream.finish().await.unwrap();
        stream.recv_response().await.unwrap();
        assert_eq!(body(&mut stream).await.unwrap(), vec![b'x'; 2000]);
    });
}

#[test]
fn a_body_that_ends_inside_a_frame_is_an_error() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        // A whole head, as h3 would send it: POST https://a/echo. Then 3 bytes of a DATA frame of 9.
        let head = [&[0x01, 14, 0, 0, 0xd4, 0xd7, 0x50, 1, b'a', 0x51, 5][..], b"/echo"].concat();
        let (mut send, mut recv) = http3.connection.open_bi().await.unwrap();
        send.write_all(&head).await.unwrap();
        send.write_all(&[0x00, 9, b'c', b'u', b't']).await.unwrap();
        send.finish().unwrap();
        // The handler panics over the error.
        let reset = quinn::ReadError::Reset(VarInt::from_u32(0x102));
        assert_eq!(recv.read_to_end(100).await.unwrap_err(), quinn::ReadToEndError::Read(reset));
        let mut stream = http3.get("/nowhere").await;
        assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn a_client_that_cancels_is_noticed_without_a_write() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut stream = http3.get("/feed").await;
        stream.recv_response().await.unwrap();
        stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
        assert_eq!(server.report().await, Report::Feed(StreamEnd::Stopped(VarInt::from_u32(0x10c))));
        // The connection goes on.
        let mut stream = http3.get("/nowhere").await;
        assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn a_page_with_many_feeds_gets_them_all_on_one_connection() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut feeds = Vec::new();
        for _ in 0..100 {
            let mut feed = http3.get("/feed").await;
            assert_eq!(feed.recv_response().await.unwrap().status(), StatusCode::OK);
            feeds.push(feed);
        }
        assert!(feeds.last_mut().unwrap().recv_data().await.unwrap().is_some());
    });
}

#[test]
fn a_panic_costs_its_own_request_only() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut feed = http3.get("/feed").await;
        feed.recv_response().await.unwrap();
        let mut stream = http3.get("/panic").await;
        let error = stream.recv_response().await.unwrap_err();
        assert_eq!(reset_code(&error), h3::error::Code::H3_INTERNAL_ERROR.value());
        let mut stream = http3.get("/nowhere").await;
        assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
        assert!(feed.recv_data().await.unwrap().is_some());
    });
}

#[test]
fn a_head_too_large_is_answered_and_one_far_too_large_is_reset() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::undriven(&server).await;
        let large = Request::get("https://127.0.0.1/feed").header("x-large", "1234567890".repeat(2 * 1024));
        let mut large = http3.send(large.body(()).unwrap()).await;
        let huge = Request::get("https://127.0.0.1/feed").header("x-huge", "1234567890".repeat(10 * 1024));
        let mut huge = http3.send(huge.body(()).unwrap()).await;
        http3.drive();
        let status = large.recv_response().await.unwrap().status();
        assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert!(body(&mut large).await.unwrap().is_empty());
        let error = huge.recv_response().await.unwrap_err();
        assert_eq!(reset_code(&error), h3::error::Code::H3_EXCESSIVE_LOAD.value());
        // The connection goes on.
        let mut stream = http3.get("/nowhere").await;
        assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn streams_without_a_header_are_ended_in_time_and_harm_no_others() {
    run(async {
        let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
        let config = endpoint::Config { bidi_streams_max: 16, uni_streams_max: 16, ..endpoint::Config::default() };
        let server = Server::with(config, limits);
        let mut http3 = Http3::connect(&server).await;
        let mut silent = Vec::new();
        for _ in 0..14 {
            let (mut send, recv) = http3.connection.open_bi().await.unwrap();
            // Half a varint.
            send.write_all(&[0x40]).await.unwrap();
            silent.push((send, recv));
        }
        let mut silent_uni = Vec::new();
        for _ in 0..12 {
            let mut send = http3.connection.open_uni().await.unwrap();
            send.write_all(&[0x40]).await.unwrap();
            silent_uni.push(send);
        }
        let mut stream = http3.get("/nowhere").await;
        assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
        let polls_before = server.polls.get();
        for (_send, mut recv) in silent {
            let error = recv.read_to_end(100).await.unwrap_err();
            let reset = quinn::ReadError::Reset(VarInt::from_u32(0x10d));
            assert_eq!(error, quinn::ReadToEndError::Read(reset));
        }
        for send in silent_uni {
            assert_eq!(send.stopped().await.unwrap(), Some(VarInt::from_u32(0x10d)));
        }
        // They cost nothing while they are silent.
        let polls = server.polls.get() - polls_before;
        assert!(polls < 50, "polled {polls} times");
    });
}

#[test]
fn half_a_head_is_given_up_in_time() {
    run(async {
        let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
        let server = Server::with(endpoint::Config::default(), limits);
        let http3 = Http3::connect(&server).await;
        let (mut send, mut recv) = http3.connection.open_bi().await.unwrap();
        send.write_all(&[0x01, 0x20, 0x00, 0x00]).await.unwrap();
        let reset = quinn::ReadError::Reset(VarInt::from_u32(0x10d));
        assert_eq!(recv.read_to_end(100).await.unwrap_err(), quinn::ReadToEndError::Read(reset));
    });
}

#[test]
fn strange_unidirectional_streams_are_stopped() {
    run(async {
        let server = Server::start();
        let http3 = Http3::connect(&server).await;
        for stream_type in [0x01, 0x21, 0x3f] {
            let mut send = http3.connection.open_uni().await.unwrap();
            send.write_all(&[stream_type, 1, 2, 3]).await.unwrap();
            assert_eq!(send.stopped().await.unwrap(), Some(VarInt::from_u32(0x103)));
        }
    });
}

#[test]
fn a_drain_lets_a_response_end_and_closes_in_order() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut feed = http3.get("/feed").await;
        feed.recv_response().await.unwrap();
        assert!(feed.recv_data().await.unwrap().is_some());
        server.drain.cancel();
        assert_eq!(body(&mut feed).await.unwrap(), b"last");
        server.ended().await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = http3.connection.closed().await else {
            panic!("not closed in order");
        };
        assert_eq!(close.error_code, VarInt::from_u32(0x100));
        let request = Request::get("https://127.0.0.1/").body(()).unwrap();
        assert!(http3.requests.send_request(request).await.is_err());
    });
}

#[test]
fn a_drain_names_a_stream_above_all_that_were_taken() {
    run(async {
        let server = Server::start();
        let connection = server.connect().await;
        // GET https://a/feed, as h3 would send it, and that of the second request first.
        let head = [&[0x01, 14, 0, 0, 0xd1, 0xd7, 0x50, 1, b'a', 0x51, 5][..], b"/feed"].concat();
        let mut requests = [connection.open_bi().await.unwrap(), connection.open_bi().await.unwrap()];
        for (send, answer) in requests.iter_mut().rev() {
            send.write_all(&head).await.unwrap();
            send.finish().unwrap();
            answer.read_exact(&mut [0]).await.unwrap();
        }
        let mut control = loop {
            let (mut stream, mut kind) = (connection.accept_uni().await.unwrap(), [0xff]);
            stream.read_exact(&mut kind).await.unwrap();
            if kind == [0x00] {
                break stream;
            }
        };
        server.drain.cancel();
        // The frame after SETTINGS, both with lengths of a byte.
        let mut head = [0; 2];
        control.read_exact(&mut head).await.unwrap();
        assert_eq!(head[0], 0x04);
        control.read_exact(&mut vec![0; head[1].into()]).await.unwrap();
        let mut goaway = [0; 3];
        control.read_exact(&mut goaway).await.unwrap();
        assert_eq!(goaway, [0x07, 1, 8], "streams 0 and 4 were taken");
    });
}

#[test]
fn an_idle_connection_drains_at_once() {
    run(async {
        let mut server = Server::start();
        let http3 = Http3::connect(&server).await;
        server.drain.cancel();
        server.ended().await.unwrap();
        // In the middle of the handshake an application's close is told as the transport's [RFC 9000 §10.2.3].
        let closed = http3.connection.closed().await;
        let by_server = matches!(
            closed,
            quinn::ConnectionError::ApplicationClosed(_) | quinn::ConnectionError::ConnectionClosed(_)
        );
        assert!(by_server, "{closed}");
    });
}

#[test]
fn a_dead_peer_is_noticed_at_the_idle_timeout() {
    run(async {
        let config = endpoint::Config {
            idle_timeout: Duration::from_millis(400),
            keep_alive: Some(Duration::from_millis(100)),
            ..endpoint::Config::default()
        };
        let mut server = Server::with(config, Limits::default());
        let (address, client_config) = (server.address, server.client_config());
        let (revive, dead) = std::sync::mpsc::channel::<()>();
        let client = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let connection = runtime.block_on(async {
                let endpoint = quinn::Endpoint::client((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
                endpoint.connect_with(client_config, address, "127.0.0.1").unwrap().await.unwrap()
            });
            // Nobody polls the runtime any more: the peer is as good as unplugged.
            let _ = dead.recv();
            drop(connection);
        });
        assert!(matches!(server.ended().await, Err(ConnectionError::Lost)));
        drop(revive);
        client.join().unwrap();
    });
}

#[test]
fn a_handshake_that_goes_nowhere_is_given_up() {
    run(async {
        let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
        let mut server = Server::with(endpoint::Config::default(), limits);
        let (address, client_config) = (server.address, server.client_config());
        let (revive, dead) = std::sync::mpsc::channel::<()>();
        let client = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (endpoint, connecting) = runtime.block_on(async {
                let endpoint = quinn::Endpoint::client((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
                let connecting = endpoint.connect_with(client_config, address, "127.0.0.1").unwrap();
                // Time for the first packet to leave, not for the answer to be read.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                (endpoint, connecting)
            });
            let _ = dead.recv();
            drop((endpoint, connecting));
        });
        assert!(matches!(server.ended().await, Err(ConnectionError::HandshakeTimeout)));
        drop(revive);
        client.join().unwrap();
    });
}
