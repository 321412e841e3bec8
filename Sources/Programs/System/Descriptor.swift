import CSystem

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
  repeat {
    if try poll(descriptor, -1, until: deadline).0 { return true }
  } while Clock.monotonicMilliseconds() < deadline
  return false
}

/// Waits until one of two descriptors can be read or is at its end, or until a moment in monotonic
/// milliseconds (`.max` for ever); -1 stands for none. Which of them it was; neither where the time is
/// over or a signal came. Source: poll(2).
func poll(
  _ first: Int32, _ second: Int32, until deadline: Int64
) throws(SystemError) -> (Bool, Bool) {
  var entries: InlineArray<2, pollfd> = [
    pollfd(fd: first, events: Int16(POLLIN), revents: 0),
    pollfd(fd: second, events: Int16(POLLIN), revents: 0),
  ]
  try poll(&entries, until: deadline)
  return (entries[0].revents != 0, entries[1].revents != 0)
}

/// The same for any descriptors and events. `revents` tells what has happened, and must be 0 before.
func poll<let count: Int>(
  _ entries: inout InlineArray<count, pollfd>, until deadline: Int64
) throws(SystemError) {
  var timeout: Int32 = -1
  if deadline < .max {
    let now = Clock.monotonicMilliseconds()
    timeout = deadline <= now ? 0 : Int32(clamping: deadline - now)
  }
  var span = entries.mutableSpan
  let result = unsafe span.withUnsafeMutableBufferPointer {
    unsafe csys_poll($0.baseAddress, $0.count, timeout)
  }
  guard result != -EINTR else { return }
  _ = try SystemError.check(result)
}
