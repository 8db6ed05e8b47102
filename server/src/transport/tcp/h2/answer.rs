//! What becomes of a request.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Poll, ready},
    time::SystemTime,
};

use ::h2::{Reason, RecvStream, server::SendResponse};
use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{Error, Requests},
    feed::{self, Opened},
    link::Link,
    outgoing::{Outgoing, Piece, Text},
    request,
};
use crate::{fanout::LocalShard, http::OpenFeed, transport::head::strip_connection_fields};

/// The connection that a request came on.
pub(super) struct Place<S> {
    pub(super) requests: Rc<Requests>,
    pub(super) shard: Rc<LocalShard>,
    pub(super) link: Weak<Link<S>>,
}

/// Answers a request. A feed that it is granted is left to be run.
pub(super) async fn answer<S>(
    place: Place<S>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Piece>,
) -> Result<Option<impl Future<Output = Result<(), Error>>>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Place { requests, shard, link } = place;
    let is_head = request.method() == Method::HEAD;
    let (mut head, body) = handle(&requests, request, &mut respond, &link).await?.into_parts();
    let open = head.extensions.remove::<OpenFeed>();
    strip_connection_fields(&mut head.headers);
    let date = || HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())).expect("a date is text");
    head.headers.entry(header::DATE).or_insert_with(date);
    if let Some(open) = open {
        head.headers.remove(header::CONTENT_LENGTH);
        let stream = begin(&mut respond, head, false, &link)?;
        return Ok(Some(feed::serve(&shard, Opened { stream, link, open })));
    }
    let is_empty = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !is_empty) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let is_whole = is_empty || is_head;
    let stream = begin(&mut respond, head, is_whole, &link)?;
    if !is_whole {
        send_body(stream, body, &link).await?;
    }
    Ok(None)
}

/// What the handler answers, unless the client gives up.
async fn handle<S: AsyncRead + AsyncWrite + Unpin>(
    requests: &Requests,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Piece>,
    link: &Weak<Link<S>>,
) -> Result<Response<Body>, Error> {
    let (request, mut go_on) = request::with_body(request);
    let mut answering = Box::pin(requests.answer(Box::new(request.map(Body::new))));
    poll_fn(|cx| {
        if let Poll::Ready(response) = answering.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        if go_on.take() {
            let mut informational = Response::new(());
            *informational.status_mut() = StatusCode::CONTINUE;
            respond.send_informational(informational)?;
            head_given(link);
        }
        let reason = ready!(respond.poll_reset(cx))?;
        Poll::Ready(Err(::h2::Error::from(reason).into()))
    })
    .await
}

fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    respond: &mut SendResponse<Piece>,
    head: response::Parts,
    is_whole: bool,
    link: &Weak<Link<S>>,
) -> Result<Outgoing, Error> {
    let stream = respond.send_response(Response::from_parts(head, ()), is_whole).inspect_err(|_| {
        respond.send_reset(Reason::INTERNAL_ERROR);
    })?;
    head_given(link);
    Ok(Outgoing::new(stream))
}

fn head_given<S: AsyncRead + AsyncWrite + Unpin>(link: &Weak<Link<S>>) {
    if let Some(link) = link.upgrade() {
        link.head_given();
    }
}

async fn send_body<S>(mut stream: Outgoing, mut body: Body, link: &Weak<Link<S>>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let besides = link.upgrade().ok_or("the connection is gone")?.besides();
    let mut unsent = None;
    poll_fn(|cx| {
        if let Poll::Ready(error) = stream.poll_reset(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            if unsent.is_some() && stream.poll_written(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(bytes) = unsent.take() {
                let is_last = body.is_end_stream();
                stream.send(Text::Body { bytes, _besides: besides.clone() }, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            match ready!(Pin::new(&mut body).poll_frame(cx)) {
                // There are no trailers here.
                Some(Ok(frame)) => unsent = frame.into_data().ok(),
                Some(Err(error)) => {
                    stream.reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(error.into()));
                }
                None => return Poll::Ready(stream.send(Text::Own(Default::default()), true)),
            }
        }
    })
    .await
}
