//! WebTransport sessions.

use std::time::Duration;

use bytes::Bytes;
use fanwire::transport::quic::{
    Close, ConnectionError, Ended, ReadError, StreamEnd, WriteError, connection::Limits, endpoint, to_http3,
};
use http::StatusCode;
use quinn::VarInt;
use web_transport_quinn::{SessionError, WebTransportError};

use crate::support::{Http3, Report, RequestStream, Server, body, reset_code, run};

#[test]
fn web_transport_quinn_reads_and_echoes() {
    run(async {
        let mut server = Server::start();
        let session = server.session("/echo").await.unwrap();
        assert!(matches!(server.report().await, Report::Accepted(_)));
        let mut hello = session.accept_uni().await.unwrap();
        assert_eq!(hello.read_to_end(100).await.unwrap(), b"hello");
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"there and back").await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"there and back");
        let mut send = session.open_uni().await.unwrap();
        send.write_all(b"one way").await.unwrap();
        send.finish().unwrap();
        assert_eq!(server.report().await, Report::Stream("one way".to_owned()));
    });
}

#[test]
fn wtransport_reads_and_echoes() {
    run(async {
        let mut server = Server::start();
        let config = wtransport::ClientConfig::builder().with_bind_default().with_no_cert_validation().build();
        let client = wtransport::Endpoint::client(config).unwrap();
        let session = client.connect(server.url("/echo").as_str()).await.unwrap();
        assert!(matches!(server.report().await, Report::Accepted(_)));
        let mut hello = session.accept_uni().await.unwrap();
        let mut buffer = [0; 5];
        hello.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hello");
        let (mut send, mut recv) = session.open_bi().await.unwrap().await.unwrap();
        send.write_all(b"there").await.unwrap();
        recv.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"there");
        // It closes no session, only the connection.
        session.close(wtransport::VarInt::from_u32(7), b"");
        assert_eq!(server.report().await, Report::Session(Ended::Lost));
        assert!(matches!(server.ended().await, Err(ConnectionError::Peer(_))));
    });
}

#[test]
fn a_client_closes_with_a_code_and_a_reason() {
    run(async {
        let mut server = Server::start();
        let session = server.session("/echo").await.unwrap();
        assert!(matches!(server.report().await, Report::Accepted(_)));
        session.close(77, "je suis fatigué".as_bytes());
        let close = Close::new(77, "je suis fatigué");
        assert_eq!(server.report().await, Report::Session(Ended::Peer(close)));
    });
}

#[test]
fn a_server_closes_with_a_code_and_a_reason() {
    run(async {
        let mut server = Server::start();
        let session = server.session("/close").await.unwrap();
        let error = session.closed().await;
        let SessionError::WebTransportError(WebTransportError::Closed(code, reason)) = error else {
            panic!("closed otherwise: {error}");
        };
        assert_eq!((code, reason.as_str()), (4001, "enough"));
        assert_eq!(server.report().await, Report::Session(Ended::Local(Close::new(4001, "enough"))));
    });
}

#[test]
fn a_session_that_is_dropped_is_closed_with_zero() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut session = accepted(&mut http3, "/drop").await;
        assert_eq!(body(&mut session).await.unwrap(), [0x68, 0x43, 4, 0, 0, 0, 0]);
    });
}

#[test]
fn a_refusal_says_why() {
    run(async {
        let server = Server::start();
        let error = server.session("/nowhere").await.err().unwrap();
        assert!(error.to_string().contains("404"), "refused otherwise: {error}");
    });
}

#[test]
fn the_answer_names_the_draft_and_the_subprotocol() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut session = http3.connect_session("/protocol").await;
        let head = session.recv_response().await.unwrap();
        assert_eq!(head.headers()["sec-webtransport-http3-draft"], "draft02");
        assert_eq!(head.headers()["wt-protocol"], r#""fanwire \"1\"""#);
    });
}

#[test]
fn sessions_and_requests_share_a_connection() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut request = http3.get("/feed").await;
        request.recv_response().await.unwrap();
        let mut first = accepted(&mut http3, "/echo").await;
        let second = accepted(&mut http3, "/echo").await;
        let ids = [first.id().into_inner(), second.id().into_inner()];
        assert_eq!(ids, [4, 8]);
        assert_eq!([server.report().await, server.report().await], ids.map(Report::Accepted));

        let mut streams = Vec::new();
        for id in [8, 4, 8] {
            let (mut send, recv) = http3.open_bi(id).await;
            send.write_all(format!("for {id}").as_bytes()).await.unwrap();
            send.finish().unwrap();
            streams.push((id, recv));
        }
        for (id, mut recv) in streams {
            assert_eq!(recv.read_to_end(100).await.unwrap(), format!("for {id}").as_bytes());
        }

        // One ends: its streams with it, and nothing else.
        let (_send, mut orphan) = http3.open_bi(4).await;
        let (mut alive, mut echo) = http3.open_bi(8).await;
        first.finish().await.unwrap();
        assert_eq!(server.report().await, Report::Session(Ended::Peer(Close::default())));
        assert_eq!(orphan.read_to_end(100).await.unwrap_err(), gone());
        let (_send, mut late) = http3.open_bi(4).await;
        assert_eq!(late.read_to_end(100).await.unwrap_err(), gone());
        alive.write_all(b"still here").await.unwrap();
        alive.finish().unwrap();
        assert_eq!(echo.read_to_end(100).await.unwrap(), b"still here");
        assert!(request.recv_data().await.unwrap().is_some());
        let mut request = http3.get("/nowhere").await;
        assert_eq!(request.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn a_stream_that_comes_before_its_session_waits_for_it() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let (mut send, mut recv) = http3.open_bi(4).await;
        send.write_all(b"early").await.unwrap();
        send.finish().unwrap();
        let mut session = http3.connect_session("/gated").await;
        assert_eq!(session.id().into_inner(), 4);
        let (mut other, mut echo) = http3.open_bi(4).await;
        other.write_all(b"less early").await.unwrap();
        other.finish().unwrap();
        server.gate.cancel();
        session.recv_response().await.unwrap();
        assert_eq!(server.report().await, Report::Accepted(4));
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"early");
        assert_eq!(echo.read_to_end(100).await.unwrap(), b"less early");
    });
}

#[test]
fn streams_whose_session_never_comes_are_refused() {
    run(async {
        let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
        // One more than wait for their sessions.
        let config = endpoint::Config { bidi_streams_max: 9, ..endpoint::Config::default() };
        let server = Server::with(config, limits);
        let http3 = Http3::connect(&server).await;
        let mut early = Vec::new();
        for _ in 0..9 {
            early.push(http3.open_bi(60).await);
        }
        let refused = quinn::ReadToEndError::Read(quinn::ReadError::Reset(VarInt::from_u32(0x3994_bd84)));
        for (_send, mut recv) in early.into_iter().rev() {
            assert_eq!(recv.read_to_end(100).await.unwrap_err(), refused);
        }
    });
}

#[test]
fn a_session_id_that_cannot_be_closes_the_connection() {
    run(async {
        let server = Server::start();
        let http3 = Http3::connect(&server).await;
        let _stream = http3.open_bi(3).await;
        let quinn::ConnectionError::ApplicationClosed(close) = http3.connection.closed().await else {
            panic!("closed otherwise");
        };
        assert_eq!(close.error_code, VarInt::from_u32(0x108));
    });
}

#[test]
fn garbage_for_capsules_ends_the_session_only() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        // A close of three bytes, a reason that isn't text, and one that is too long.
        let garbage: [&[u8]; 3] =
            [&[0x68, 0x43, 3, 0, 0, 0], &[0x68, 0x43, 5, 0, 0, 0, 0, 0xff], &[0x68, 0x43, 0x44, 0x05, 0]];
        for garbage in garbage {
            let mut session = accepted(&mut http3, "/echo").await;
            assert!(matches!(server.report().await, Report::Accepted(_)));
            session.send_data(Bytes::copy_from_slice(garbage)).await.unwrap();
            assert_eq!(server.report().await, Report::Session(Ended::Malformed));
            let error = body(&mut session).await.unwrap_err();
            assert_eq!(reset_code(&error), h3::error::Code::H3_MESSAGE_ERROR.value());
        }
        let mut request = http3.get("/nowhere").await;
        assert_eq!(request.recv_response().await.unwrap().status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn unknown_capsules_of_any_size_are_skipped() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut session = accepted(&mut http3, "/echo").await;
        assert!(matches!(server.report().await, Report::Accepted(_)));
        // 4 MiB of a capsule that nobody knows, then a close.
        session.send_data(Bytes::from_static(&[0x7f, 0xff, 0x80, 0x40, 0, 0])).await.unwrap();
        for _ in 0..64 {
            session.send_data(Bytes::from(vec![0x68; 64 * 1024])).await.unwrap();
        }
        session.send_data(Bytes::from_static(&[0x68, 0x43, 6, 0, 0, 0, 9, b'o', b'k'])).await.unwrap();
        assert_eq!(server.report().await, Report::Session(Ended::Peer(Close::new(9, "ok"))));
    });
}

#[test]
fn a_drain_is_a_capsule() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut session = accepted(&mut http3, "/drain").await;
        let capsule = session.recv_data().await.unwrap().unwrap();
        assert_eq!(bytes::Buf::chunk(&capsule), [0x80, 0x00, 0x78, 0xae, 0]);
        session.finish().await.unwrap();
        assert_eq!(server.report().await, Report::Session(Ended::Peer(Close::default())));
    });
}

#[test]
fn a_write_that_waits_for_its_reader_ends_with_the_session() {
    run(async {
        let mut server = Server::start();
        let session = server.session("/flood").await.unwrap();
        let _unread = session.accept_uni().await.unwrap();
        session.close(1, b"had enough");
        assert_eq!(server.report().await, Report::Write(WriteError::SessionEnded));
    });
}

#[test]
fn codes_of_streams_are_the_applications() {
    run(async {
        let mut server = Server::start();
        let session = server.session("/codes").await.unwrap();
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        // A reset takes with it what isn't delivered, the stream's header included.
        recv.read_exact(&mut [0]).await.unwrap();
        send.reset(5).unwrap();
        recv.stop(6).unwrap();
        assert_eq!(server.report().await, Report::Read(ReadError::Reset(Some(5))));
        assert_eq!(server.report().await, Report::Feed(StreamEnd::Stopped(to_http3(6))));
        assert_eq!(server.report().await, Report::Write(WriteError::Stopped(Some(6))));
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        let error = recv.read_to_end(100).await.unwrap_err();
        assert!(error.to_string().contains("11"), "{error}");
        assert_eq!(send.stopped().await.unwrap(), Some(12));
    });
}

#[test]
fn a_connection_that_is_dropped_is_closed() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let _session = accepted(&mut http3, "/drain").await;
        server.abort.cancel();
        assert!(matches!(http3.connection.closed().await, quinn::ConnectionError::ApplicationClosed(_)));
    });
}

#[test]
fn a_stream_that_its_handler_holds_ends_with_the_session() {
    run(async {
        let server = Server::start();
        let session = server.session("/hold").await.unwrap();
        let mut feed = session.accept_uni().await.unwrap();
        assert_eq!(feed.read_chunk(4, true).await.unwrap().unwrap().bytes, "held");
        // Tells the handler to close; it keeps the stream.
        let (mut send, _recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        let SessionError::WebTransportError(WebTransportError::Closed(0, _)) = session.closed().await else {
            panic!("closed otherwise");
        };
    });
}

#[test]
fn a_panic_costs_its_own_session_only() {
    run(async {
        let mut server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let other = accepted(&mut http3, "/echo").await;
        assert!(matches!(server.report().await, Report::Accepted(_)));
        let mut session = http3.connect_session("/panic").await;
        // The reset may overtake the answer.
        let error = match session.recv_response().await {
            Ok(_) => body(&mut session).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(reset_code(&error), h3::error::Code::H3_INTERNAL_ERROR.value());
        let (mut send, mut recv) = http3.open_bi(other.id().into_inner()).await;
        send.write_all(b"unharmed").await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"unharmed");
    });
}

#[test]
fn an_offer_that_is_dropped_is_reset() {
    run(async {
        let server = Server::start();
        let mut http3 = Http3::connect(&server).await;
        let mut session = http3.connect_session("/silent").await;
        let error = session.recv_response().await.unwrap_err();
        assert_eq!(reset_code(&error), h3::error::Code::H3_INTERNAL_ERROR.value());
    });
}

#[test]
fn datagrams_are_taken_and_dropped() {
    run(async {
        let mut server = Server::start();
        let session = server.session("/echo").await.unwrap();
        assert!(matches!(server.report().await, Report::Accepted(_)));
        for _ in 0..100 {
            session.send_datagram(Bytes::from_static(b"lost")).unwrap();
        }
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"fine").await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"fine");
    });
}

async fn accepted(http3: &mut Http3, path: &str) -> RequestStream {
    let mut session = http3.connect_session(path).await;
    assert_eq!(session.recv_response().await.unwrap().status(), StatusCode::OK);
    session
}

fn gone() -> quinn::ReadToEndError {
    quinn::ReadToEndError::Read(quinn::ReadError::Reset(VarInt::from_u32(0x170d_7b68)))
}
