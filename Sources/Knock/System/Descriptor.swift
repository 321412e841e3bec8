import CSystem
import KnockProtocol

/// A file descriptor of ours, closed when the value ends.
struct Descriptor: ~Copyable {
  let number: Int32

  init(owning number: Int32) { self.number = number }

  deinit { close(number) }
}

/// Waits until a descriptor can be read, for at most `milliseconds`. Source: poll(2).
///
/// - Returns: false when the time is over.
/// - Throws: what poll(2) does. A signal (EINTR) starts the wait anew.
func waitUntilReadable(_ descriptor: Int32, milliseconds: Int32) throws(SystemError) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  while true {
    let result = unsafe csys_poll(&entry, 1, milliseconds)
    if result != -EINTR { return try SystemError.check(result) > 0 }
  }
}
