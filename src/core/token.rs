//! The token: the one word that lets a new box join, as `cat /cluster/token` prints it and `holdfast join`
//! takes it.
//!
//! `hf1.` and lowercase hex of: length of the whole (u16), cluster, server name, addresses, server key,
//! secret, crc32. A string is its length (u8) and its bytes; the list of addresses is their number (u8) and
//! the strings; all numbers big-endian. The length tells a token that was cut off in pasting from one with a
//! wrong letter.
//!
//! Whether the secret is still valid only the cluster knows: not here.

use std::fmt;
use std::net::SocketAddr;

use super::{hex, intent::PEER_PORT, view::View};

/// What stands before the hex; the digit is the format's version.
const PREFIX: &str = "hf1.";
/// Bytes of a key or a secret.
const KEY_BYTES: usize = 32;
/// Of the whole, at the front.
const LENGTH_BYTES: usize = 2;
/// Of the checksum, at the end.
const SUM_BYTES: usize = 4;

/// What a newcomer needs to know: where the cluster is, how to recognize it, and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The cluster's id.
    pub cluster: String,
    /// Name of the box that gave the token.
    pub server: String,
    /// Where that box listens for peers, best first; up to 255.
    pub addresses: Vec<SocketAddr>,
    /// That box's static public key; another one is refused.
    pub server_key: [u8; KEY_BYTES],
    /// Proves to the cluster that the newcomer was given the token.
    pub secret: [u8; KEY_BYTES],
}

/// The newest token, given out by this box; None where the box belongs to no cluster.
pub fn of(view: &View) -> Option<String> {
    let cluster = view.intent.cluster.as_ref()?;
    let me = view.intent.members.get(view.me.as_ref()?)?;
    let token = Token {
        cluster: cluster.id.clone(),
        server: me.name.to_string(),
        addresses: vec![SocketAddr::new(me.address, PEER_PORT)],
        server_key: hex::key(&me.public_key)?,
        secret: hex::key(&cluster.join_secret)?,
    };
    token.to_text().ok()
}

/// Without the secret, so that no log has it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("cluster", &self.cluster)
            .field("server", &self.server)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Why a word is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The sentences say it.
pub enum TokenError {
    #[error("this is no token: it does not start with {PREFIX}")]
    NotAToken,
    #[error("the token is of another version ({version}); this program knows {PREFIX} only")]
    Version { version: String },
    #[error("the token is cut off: {is} characters of {should}")]
    CutOff { is: usize, should: usize },
    #[error("the token has a character that is none of 0-9 a-f at place {place}")]
    Character { place: usize },
    #[error("the token has a typing error, or too much was pasted: its checksum is wrong")]
    Checksum,
    #[error("the token cannot be made: {what} is too long")]
    TooLong { what: &'static str },
}

impl Token {
    /// The token as one printable word.
    ///
    /// # Errors
    /// `TooLong` if a name has, or the addresses are, more than 255.
    pub fn to_text(&self) -> Result<String, TokenError> {
        let mut body = vec![0; LENGTH_BYTES];
        push_string(&mut body, &self.cluster, "the cluster's id")?;
        push_string(&mut body, &self.server, "the server's name")?;
        let count = u8::try_from(self.addresses.len());
        body.push(count.map_err(|_| TokenError::TooLong { what: "the list of addresses" })?);
        for address in &self.addresses {
            push_string(&mut body, &address.to_string(), "an address")?;
        }
        body.extend(self.server_key);
        body.extend(self.secret);
        let length = u16::try_from(body.len() + SUM_BYTES);
        let length = length.map_err(|_| TokenError::TooLong { what: "the list of addresses" })?;
        body[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        body.extend(crc32fast::hash(&body).to_be_bytes());
        Ok(format!("{PREFIX}{}", hex::text(&body)))
    }

    /// Reads a token; spaces around it and capitals do not matter.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the word.
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        let text = text.trim().to_ascii_lowercase();
        let Some(hex) = text.strip_prefix(PREFIX) else {
            return Err(match text.split_once('.') {
                Some((version, _)) if is_version(version) => {
                    TokenError::Version { version: version.to_owned() }
                }
                Some(_) | None => TokenError::NotAToken,
            });
        };
        let body = from_hex(hex)?;
        let cut_off = |bytes: usize| TokenError::CutOff { is: text.len(), should: PREFIX.len() + 2 * bytes };
        let Some(length) = body.first_chunk::<LENGTH_BYTES>() else { return Err(cut_off(LENGTH_BYTES)) };
        let length = usize::from(u16::from_be_bytes(*length));
        if hex.len() < 2 * length {
            return Err(cut_off(length));
        }
        let (covered, sum) = body.split_last_chunk::<SUM_BYTES>().ok_or(TokenError::Checksum)?;
        if body.len() != length || hex.len() % 2 != 0 || crc32fast::hash(covered).to_be_bytes() != *sum {
            return Err(TokenError::Checksum);
        }
        // What the checksum covers was written by `to_text`; all that does not fit now is as bad as a wrong
        // one.
        fields(&covered[LENGTH_BYTES..]).ok_or(TokenError::Checksum)
    }
}

fn is_version(word: &str) -> bool {
    word.starts_with("hf") && word.len() < 8 && word.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn push_string(body: &mut Vec<u8>, text: &str, what: &'static str) -> Result<(), TokenError> {
    body.push(u8::try_from(text.len()).map_err(|_| TokenError::TooLong { what })?);
    body.extend(text.as_bytes());
    Ok(())
}

/// An odd digit at the end is left out.
fn from_hex(hex: &str) -> Result<Vec<u8>, TokenError> {
    let digit = |(at, c): (usize, char)| {
        c.to_digit(16).map(|digit| digit as u8).ok_or(TokenError::Character { place: PREFIX.len() + at + 1 })
    };
    let digits: Vec<u8> = hex.chars().enumerate().map(digit).collect::<Result<_, _>>()?;
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn fields(mut rest: &[u8]) -> Option<Token> {
    let cluster = take_string(&mut rest)?;
    let server = take_string(&mut rest)?;
    let count = take(&mut rest, 1)?[0];
    let addresses = (0..count).map(|_| take_string(&mut rest)?.parse().ok()).collect::<Option<_>>()?;
    let server_key = take(&mut rest, KEY_BYTES)?.try_into().ok()?;
    let secret = take(&mut rest, KEY_BYTES)?.try_into().ok()?;
    rest.is_empty().then_some(Token { cluster, server, addresses, server_key, secret })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn take_string(rest: &mut &[u8]) -> Option<String> {
    let length = take(rest, 1)?[0];
    String::from_utf8(take(rest, usize::from(length))?.to_vec()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sample() -> Token {
        Token {
            cluster: "c0ffee".into(),
            server: "box1".into(),
            addresses: vec!["10.0.0.1:6999".parse().unwrap(), "[fd00::1]:6999".parse().unwrap()],
            server_key: [7; KEY_BYTES],
            secret: [0xAB; KEY_BYTES],
        }
    }

    #[test]
    fn a_token_is_one_word_and_reads_back() {
        let text = sample().to_text().unwrap();
        assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{text}");
        assert_eq!(Token::parse(&text).unwrap(), sample());
        assert_eq!(Token::parse(&format!("  {}\n", text.to_ascii_uppercase())).unwrap(), sample());
        let bare = Token { addresses: vec![], ..sample() };
        assert_eq!(Token::parse(&bare.to_text().unwrap()).unwrap(), bare);
    }

    #[test]
    fn every_cut_is_called_one_and_every_other_change_is_found() {
        let text = sample().to_text().unwrap();
        for length in PREFIX.len()..text.len() {
            let error = Token::parse(&text[..length]).unwrap_err();
            assert!(matches!(error, TokenError::CutOff { is, .. } if is == length), "{length}: {error}");
        }
        for at in 0..text.len() {
            for with in [b'0', b'f', b'z'] {
                let mut changed = text.clone().into_bytes();
                if changed[at] != with {
                    changed[at] = with;
                    assert!(Token::parse(&String::from_utf8(changed).unwrap()).is_err(), "{at}");
                }
            }
        }
        assert_eq!(Token::parse(&(text.clone() + "0")), Err(TokenError::Checksum));
        assert_eq!(Token::parse(&(text.clone() + "00")), Err(TokenError::Checksum));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = sample().to_text().unwrap();
        let cases = [
            ("hello".to_owned(), "no token"),
            (text.replacen("hf1", "hf2", 1), "another version (hf2)"),
            (text[..50].to_owned(), "cut off: 50 characters"),
            (text.replacen("hf1.0", "hf1.x", 1), "at place 5"),
            (format!("{}0", &text[..text.len() - 1]), "checksum"),
            ("hf1.ü".to_owned(), "at place 5"),
            // Found by tests/fuzz: what is shown as a version went to the terminal as it was.
            ("hf\u{1b}[2j1.00".to_owned(), "no token"),
            ("hf\n1.00".to_owned(), "no token"),
        ];
        for (word, says) in cases {
            if word == text {
                continue; // The last digit was a 0.
            }
            let error = Token::parse(&word).unwrap_err().to_string();
            assert!(error.contains(says), "{word}: {error}");
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", sample()).contains("171"));
    }
}
