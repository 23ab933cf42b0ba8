//! The address of a `unix(7)` socket: a path, an abstract name, or none.
#![allow(unsafe_code)] // Reads an address that the kernel wrote as bytes.

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most bytes of a name: of a path without the NUL that ends it, of an abstract name without the one before it.
pub const MAX_NAME: usize = 107;

/// Where in `struct sockaddr_un` the name begins: after the family.
const FAMILY_BYTES: usize = 2;

/// Where a socket can be found. It is checked when it is made, so that using it costs nothing more.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(SocketAddrUnix);

impl Address {
    /// `unix(7)`: a path in the file system.
    ///
    /// # Errors
    /// `InvalidInput` for an empty path, one with a NUL, or one of more than [`MAX_NAME`] bytes.
    ///
    /// ```
    /// use ginnel_os::unix::Address;
    ///
    /// let address = Address::path("/run/example.sock")?;
    /// assert_eq!(address.to_string(), "/run/example.sock");
    /// let error = Address::path("x".repeat(108)).unwrap_err();
    /// assert!(error.to_string().contains("107"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn path(path: impl AsRef<Path>) -> io::Result<Self> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(invalid("the path of a socket is empty; name a file".into()));
        }
        if bytes.contains(&0) {
            return Err(invalid("the path of a socket has a NUL in it; leave it out".into()));
        }
        if bytes.len() > MAX_NAME {
            return Err(invalid(format!(
                "the path of a socket has {} bytes, the limit is {MAX_NAME}; use a shorter directory, or a path relative to it",
                bytes.len()
            )));
        }
        Ok(Self(SocketAddrUnix::new(bytes)?))
    }

    /// `unix(7)`: an abstract name, which no file stands for. Any bytes; anybody in the same network namespace may take it or connect to it.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`MAX_NAME`] bytes.
    ///
    /// ```
    /// use ginnel_os::unix::Address;
    ///
    /// let address = Address::abstract_name(b"example\0\xff")?;
    /// assert_eq!(address.as_abstract(), Some(&b"example\0\xff"[..]));
    /// assert_eq!(address.to_string(), r"@example\0\xff");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abstract_name(name: &[u8]) -> io::Result<Self> {
        if name.len() > MAX_NAME {
            return Err(invalid(format!(
                "the abstract name has {} bytes, the limit is {MAX_NAME}; use a shorter one",
                name.len()
            )));
        }
        Ok(Self(SocketAddrUnix::new_abstract_name(name)?))
    }

    /// `unix(7)`: no name. To `bind` it means that the kernel shall choose one.
    ///
    /// ```
    /// assert!(ginnel_os::unix::Address::unnamed().is_unnamed());
    /// ```
    pub fn unnamed() -> Self {
        Self(SocketAddrUnix::new_unnamed())
    }

    /// `unix(7)`: as people write it: `@name` is abstract, anything else a path. `./@name` is a path again.
    ///
    /// # Errors
    /// As [`path`](Self::path) and [`abstract_name`](Self::abstract_name).
    ///
    /// ```
    /// use ginnel_os::unix::Address;
    ///
    /// assert_eq!(Address::parse("@bus")?, Address::abstract_name(b"bus")?);
    /// assert_eq!(Address::parse("/run/bus")?, Address::path("/run/bus")?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn parse(text: impl AsRef<OsStr>) -> io::Result<Self> {
        match text.as_ref().as_bytes() {
            [b'@', name @ ..] => Self::abstract_name(name),
            path => Self::path(OsStr::from_bytes(path)),
        }
    }

    /// The path, if it is one. From the kernel it may have one byte more than [`MAX_NAME`].
    ///
    /// ```
    /// let address = ginnel_os::unix::Address::path("/run/bus")?;
    /// assert_eq!(address.as_path(), Some(std::path::Path::new("/run/bus")));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn as_path(&self) -> Option<&Path> {
        self.0.path_bytes().map(|bytes| Path::new(OsStr::from_bytes(bytes)))
    }

    /// The abstract name, if it is one, without the NUL before it.
    ///
    /// ```
    /// assert_eq!(ginnel_os::unix::Address::unnamed().as_abstract(), None);
    /// ```
    pub fn as_abstract(&self) -> Option<&[u8]> {
        self.0.abstract_name()
    }

    /// Whether there is no name.
    ///
    /// ```
    /// assert!(!ginnel_os::unix::Address::path("/run/bus")?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_unnamed(&self) -> bool {
        self.0.is_unnamed()
    }

    pub(super) fn raw(&self) -> &SocketAddrUnix {
        &self.0
    }

    /// An address from a system call. Decoded here, as a path of 108 bytes, which a peer may have, has no NUL within the structure.
    pub(super) fn of(address: &SocketAddrAny) -> io::Result<Self> {
        if address.address_family() != AddressFamily::UNIX {
            return Err(invalid("the socket is of another family; only unix sockets have such an address".into()));
        }
        let len = address.addr_len() as usize;
        // SAFETY: the first `addr_len` bytes of it are initialised, as the type promises.
        let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), len) };
        Ok(Self::decode(bytes))
    }

    /// `struct sockaddr_un` as the kernel wrote it; too few bytes are no name.
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self::from_name(bytes.get(FAMILY_BYTES..).unwrap_or_default())
    }

    /// `sun_path` as the kernel wrote it.
    #[inline]
    pub(crate) fn from_name(name: &[u8]) -> Self {
        let decoded = match name {
            [] => return Self::unnamed(),
            [0, name @ ..] => SocketAddrUnix::new_abstract_name(name),
            path => SocketAddrUnix::new(path.split(|byte| *byte == 0).next().unwrap_or_default()),
        };
        decoded.map_or_else(|_| Self::unnamed(), Self)
    }
}

/// A path as it is, `@` before an abstract name, bytes that are no text escaped, nothing for no name.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.path_bytes(), self.as_abstract()) {
            (Some(path), _) => write!(f, "{}", path.escape_ascii()),
            (None, Some(name)) => f.write_str(&format!("@{}", name.escape_ascii()).replace(r"\x00", r"\0")),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &[u8]) -> Vec<u8> {
        [&1u16.to_ne_bytes()[..], name].concat()
    }

    #[test]
    fn names_have_limits() {
        assert!(Address::path("x".repeat(107)).is_ok());
        let error = Address::path("x".repeat(108)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains("108") && text.contains("107") && text.contains("shorter"), "{text}");
        assert!(Address::abstract_name(&[b'x'; 107]).is_ok());
        assert!(Address::abstract_name(&[b'x'; 108]).unwrap_err().to_string().contains("107"));
        assert!(Address::path("").is_err());
        assert!(Address::path("a\0b").is_err());
        assert!(Address::abstract_name(b"").is_ok());
        assert!(Address::parse("@").unwrap().as_abstract().unwrap().is_empty());
    }

    #[test]
    fn what_the_kernel_writes_is_decoded() {
        assert!(Address::decode(&[]).is_unnamed());
        assert!(Address::decode(&kernel(b"")).is_unnamed());
        assert_eq!(Address::decode(&kernel(b"/a\0")).as_path(), Some(Path::new("/a")));
        assert_eq!(Address::decode(&kernel(b"/a\0rest")).as_path(), Some(Path::new("/a")));
        assert_eq!(Address::decode(&kernel(b"\0a\0b")).as_abstract(), Some(&b"a\0b"[..]));
        let longest = [b'x'; 108];
        assert_eq!(Address::decode(&kernel(&longest)).as_path().unwrap().as_os_str().as_bytes(), longest);
        assert!(Address::decode(&kernel(&[b'x'; 120])).is_unnamed());
    }

    #[test]
    fn a_peer_with_a_path_of_108_bytes_is_only_a_peer() {
        use crate::{socket, unix};
        let folder = std::env::temp_dir();
        let fill = MAX_NAME + 1 - folder.as_os_str().len() - 1;
        let path = folder.join(format!("{:0>fill$}", std::process::id()));
        let long = SocketAddrUnix::new(&path).unwrap();
        let peer = unix::socket(socket::Kind::Datagram).unwrap();
        rustix::net::bind(&peer, &long).unwrap();
        let _ = std::fs::remove_file(&path);
        let own = unix::bind(socket::Kind::Datagram, &Address::unnamed()).unwrap();
        assert_eq!(unix::local_address(&peer).unwrap().as_path(), Some(&*path));
        unix::send_to(&peer, b"hi", &unix::local_address(&own).unwrap(), None).unwrap();
        let (bytes, from) = unix::recv_from(&own, &mut [0; 8], None).unwrap();
        assert_eq!((bytes, from.as_path()), (2, Some(&*path)));
    }
}
