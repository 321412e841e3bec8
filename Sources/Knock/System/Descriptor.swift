import CSystem
import KnockProtocol

/// A file descriptor of ours, closed when the value ends.
struct Descriptor: ~Copyable {
  let number: Int32

  init(owning number: Int32) { self.number = number }

  deinit { close(number) }
}

/// Waits until a descriptor can be read, up to a moment in monotonic milliseconds. Source: poll(2).
///
/// - Returns: false when the time is over.
/// - Throws: what poll(2) does, but for an interruption (EINTR).
func waitUntilReadable(_ descriptor: Int32, until deadline: Int64) throws(SystemError) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  while true {
    let rest = max(0, deadline - Clock.monotonicMilliseconds())
    let result = unsafe csys_poll(&entry, 1, Int32(clamping: rest))
    if result != -EINTR { return try SystemError.check(result) > 0 }
  }
}
