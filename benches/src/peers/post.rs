//! Just enough HTTP/1.1 for the floors: a publisher's POST, and a subscriber's GET.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::{Context, Result};

/// What a connection asks for first.
pub(super) enum Request {
    /// A subscriber.
    Get(TcpStream),
    /// A publisher, with its first event.
    Post(Publisher, Vec<u8>),
}

/// A connection that publishes.
pub(super) struct Publisher(BufReader<TcpStream>);

pub(super) fn read(stream: TcpStream) -> Result<Request> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let (method, body_bytes) = head(&mut reader)?.context("the peer hung up")?;
    if method == "GET" {
        return Ok(Request::Get(reader.into_inner()));
    }
    let mut publisher = Publisher(reader);
    let body = publisher.body(body_bytes)?;
    Ok(Request::Post(publisher, body))
}

impl Publisher {
    /// A connection on which nobody subscribes.
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Says that the event is out, and waits for the next.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.answer()?;
        self.read()
    }

    pub(super) fn answer(&mut self) -> Result<()> {
        Ok(self.0.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?)
    }

    pub(super) fn read(&mut self) -> Result<Option<Vec<u8>>> {
        match head(&mut self.0)? {
            Some((_, body_bytes)) => self.body(body_bytes).map(Some),
            None => Ok(None),
        }
    }

    fn body(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut body = vec![0; bytes];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }
}

impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> Result<Option<(String, usize)>> {
    let (mut line, mut method, mut body_bytes) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some((method, body_bytes)));
        }
        if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_bytes = value.trim().parse().context("content-length")?;
        }
    }
}
