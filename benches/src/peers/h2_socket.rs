//! Just enough HTTP/2 for the floor under it: one request on a connection, and frames of data that answer it.

use std::io::{self, Read as _, Write};

use anyhow::{Result, ensure};

use super::send_loop::Secure;

/// A connection with a feed on its first stream.
pub(super) struct H2Socket {
    socket: Secure,
    /// What the client still takes: on the stream, and in all.
    stream_window: i64,
    window: i64,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl H2Socket {
    /// Reads up to the first request, and begins to answer it.
    pub(super) fn open(mut socket: Secure) -> Result<Self> {
        let mut preface = [0; PREFACE.len()];
        socket.read_exact(&mut preface)?;
        ensure!(preface == *PREFACE, "it isn't HTTP/2");
        socket.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])?;
        let mut opened = Self { socket, stream_window: WINDOW_BYTES, window: WINDOW_BYTES };
        while !opened.read()? {}
        let mut head = frame_head(HEAD.len(), HEADERS, END_HEADERS).to_vec();
        head.extend_from_slice(HEAD);
        opened.socket.write_all(&head)?;
        opened.socket.flush()?;
        Ok(opened)
    }

    /// Takes in a frame. True if it was the request.
    fn read(&mut self) -> io::Result<bool> {
        let Frame { kind, flags, stream, payload } = read_frame(&mut self.socket)?;
        match kind {
            HEADERS => return Ok(true),
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if setting[..2] == INITIAL_WINDOW_SIZE {
                        self.stream_window = number(&setting[2..]);
                    }
                }
                self.socket.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0])?;
            }
            WINDOW_UPDATE if stream == 0 => self.window += number(&payload),
            WINDOW_UPDATE => self.stream_window += number(&payload),
            _ => {}
        }
        Ok(false)
    }
}

impl Write for H2Socket {
    /// A frame of data.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        let bytes = (frame.len() - FRAME_HEAD_BYTES) as i64;
        while bytes > self.window.min(self.stream_window) {
            self.read()?;
        }
        self.window -= bytes;
        self.stream_window -= bytes;
        self.socket.write_all(frame)?;
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// An event in a frame, the same for everybody: each feed is on its connection's first stream.
pub(super) fn frame(event: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(event.len(), DATA, 0).to_vec();
    frame.extend_from_slice(event);
    frame
}

fn frame_head(bytes: usize, kind: u8, flags: u8) -> [u8; FRAME_HEAD_BYTES] {
    let [.., high, middle, low] = bytes.to_be_bytes();
    [high, middle, low, kind, flags, 0, 0, 0, 1]
}

fn read_frame(socket: &mut Secure) -> io::Result<Frame> {
    let mut head = [0; FRAME_HEAD_BYTES];
    socket.read_exact(&mut head)?;
    let mut payload = vec![0; number(&head[..3]) as usize];
    socket.read_exact(&mut payload)?;
    Ok(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) as u32, payload })
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
const WINDOW_BYTES: i64 = 65_535;
/// `:status: 200`, and `content-type: text/event-stream` by the index of its name. [RFC 7541 §6]
const HEAD: &[u8] = b"\x88\x0f\x10\x11text/event-stream";
