//! Frames of HTTP/2 put together by hand, as no client would that knows it. [RFC 9113 §4.1]

/// What a client begins with: the preface, and SETTINGS with these entries. [RFC 9113 §3.4]
pub fn greeting(settings: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()
}

/// The whole head of `GET http://localhost/…`, which has no body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(path))
}

/// The fields of that head. [RFC 7541 Appendix A]
///
/// # Panics
/// On a path of more than 126 bytes.
pub fn fields(path: &str) -> Vec<u8> {
    let mut fields = vec![0x82, 0x86, 0x04];
    put_string(&mut fields, path);
    fields.push(0x01);
    put_string(&mut fields, "localhost");
    fields
}

/// A frame of any kind, on any stream.
///
/// # Panics
/// On a payload that has more bytes than a frame can say.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [0, bytes @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes() else { panic!("a long payload") };
    let mut frame = bytes.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn put_string(fields: &mut Vec<u8>, text: &str) {
    let bytes = u8::try_from(text.len()).ok().filter(|bytes| *bytes < 0x7f).expect("short");
    fields.push(bytes);
    fields.extend_from_slice(text.as_bytes());
}

/// What comes before the first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Of a frame: a piece of a body. [RFC 9113 §6]
pub const DATA: u8 = 0;
/// Of a frame: a head, or what it begins with.
pub const HEADERS: u8 = 1;
/// Of a frame: what came before another, once.
pub const PRIORITY: u8 = 2;
/// Of a frame: a stream ends at once.
pub const RST_STREAM: u8 = 3;
/// Of a frame: what its sender takes.
pub const SETTINGS: u8 = 4;
/// Of a frame: a stream that a server opens.
pub const PUSH_PROMISE: u8 = 5;
/// Of a frame: it is to be answered.
pub const PING: u8 = 6;
/// Of a frame: the connection ends.
pub const GOAWAY: u8 = 7;
/// Of a frame: its sender takes more.
pub const WINDOW_UPDATE: u8 = 8;
/// Of a frame: a head goes on.
pub const CONTINUATION: u8 = 9;

/// A flag of SETTINGS and PING: it answers one.
pub const ACK: u8 = 1;
/// A flag of DATA and HEADERS: nothing comes after it.
pub const END_STREAM: u8 = 1;
/// A flag of HEADERS and CONTINUATION: all fields are there.
pub const END_HEADERS: u8 = 4;

/// The payload of an RST_STREAM: the client wants no more. [RFC 9113 §7]
pub const CANCEL: [u8; 4] = [0, 0, 0, 8];
