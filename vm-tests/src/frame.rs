//! The frames that the lab's programs talk in: the server with the agent in a box, and a word with the server.
//! One codec for both, so that the output of a command passes through the server as it came.
//!
//! On the wire: payload length (u32), conversation (u32), kind (u8), payload; integers little-endian.

use std::io::{self, Read, Write};

/// Longest payload. Anything longer is nonsense on the channel, not a message.
pub const PAYLOAD_MAX_BYTES: usize = 64 * 1024;
const HEADER_BYTES: usize = 9;

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the agent: run this shell command.
    Run,
    /// To a command: bytes of its standard input.
    In,
    /// To a command: the end of its standard input.
    InEnd,
    /// To a command: it is no longer wanted.
    Kill,
    /// From a command: bytes of its standard output.
    Out,
    /// From a command: bytes of its standard error.
    Err,
    /// From a command: its exit code (i32), the last frame of a conversation.
    Exit,
    /// To the agent: are you there?
    Ping,
    /// From the agent: yes; also that a command has begun.
    Pong,
    /// To the agent: become this box (JSON).
    Setup,
    /// To the server: a word (JSON).
    Request,
    /// From the agent: it has just started, and knows nothing of earlier conversations.
    Hello,
}

const KINDS: [Kind; 12] = [
    Kind::Run,
    Kind::In,
    Kind::InEnd,
    Kind::Kill,
    Kind::Out,
    Kind::Err,
    Kind::Exit,
    Kind::Ping,
    Kind::Pong,
    Kind::Setup,
    Kind::Request,
    Kind::Hello,
];

impl Kind {
    fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Kind> {
        KINDS.get(usize::from(code)).copied()
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which conversation it belongs to; chosen by the side that began it.
    pub id: u32,
    /// What it means.
    pub kind: Kind,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame with these parts.
    pub fn new(id: u32, kind: Kind, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { id, kind, payload: payload.into() }
    }

    /// The frame that ends a conversation.
    pub fn exit(id: u32, code: i32) -> Frame {
        Frame::new(id, Kind::Exit, code.to_le_bytes())
    }

    /// The exit code that an `Exit` frame carries.
    pub fn exit_code(&self) -> Option<i32> {
        (self.kind == Kind::Exit).then(|| self.payload.as_slice().try_into().ok().map(i32::from_le_bytes))?
    }

    /// Writes the frame in one piece, so that two writers under one lock never mix.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        if self.payload.len() > PAYLOAD_MAX_BYTES {
            return Err(io::Error::other(format!("a frame of {} bytes is too long", self.payload.len())));
        }
        let length = u32::try_from(self.payload.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.push(self.kind.code());
        bytes.extend_from_slice(&self.payload);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// Reads one frame; `None` where the stream ends between two.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut header = [0u8; HEADER_BYTES];
        let mut filled = 0;
        while filled < HEADER_BYTES {
            match from.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let [l0, l1, l2, l3, i0, i1, i2, i3, code] = header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > PAYLOAD_MAX_BYTES {
            return Err(io::Error::other(format!("a frame of {length} bytes is too long")));
        }
        let kind = Kind::from_code(code)
            .ok_or_else(|| io::Error::other(format!("a frame of unknown kind {code}")))?;
        let mut payload = vec![0u8; length];
        from.read_exact(&mut payload)?;
        Ok(Some(Frame { id: u32::from_le_bytes([i0, i1, i2, i3]), kind, payload }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
    use super::*;

    #[test]
    fn a_frame_reads_back_as_written() {
        let mut bytes = Vec::new();
        for (id, kind) in KINDS.into_iter().enumerate() {
            Frame::new(u32::try_from(id).unwrap(), kind, vec![7; id]).write(&mut bytes).unwrap();
        }
        let mut from = bytes.as_slice();
        for (id, kind) in KINDS.into_iter().enumerate() {
            let frame = Frame::read(&mut from).unwrap().unwrap();
            assert_eq!(frame, Frame::new(u32::try_from(id).unwrap(), kind, vec![7; id]));
        }
        assert_eq!(Frame::read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_cut_off_frame_is_an_error() {
        let mut bytes = Vec::new();
        Frame::new(1, Kind::Out, "hello").write(&mut bytes).unwrap();
        for length in 1..bytes.len() {
            assert!(Frame::read(&mut &bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let too_long = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0];
        assert!(Frame::read(&mut too_long.as_slice()).is_err());
        let unknown = [0, 0, 0, 0, 0, 0, 0, 0, 200];
        assert!(Frame::read(&mut unknown.as_slice()).is_err());
        assert!(Frame::new(0, Kind::Out, vec![0; PAYLOAD_MAX_BYTES + 1]).write(&mut Vec::new()).is_err());
    }

    #[test]
    fn only_an_exit_frame_has_an_exit_code() {
        assert_eq!(Frame::exit(3, -7).exit_code(), Some(-7));
        assert_eq!(Frame::new(3, Kind::Exit, "x").exit_code(), None);
        assert_eq!(Frame::new(3, Kind::Out, [0, 0, 0, 0]).exit_code(), None);
    }
}
