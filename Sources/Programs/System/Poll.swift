import CSystem
import KnockBase

/// A descriptor to wait for, and whether it is ready. Source: poll(2).
struct PollEntry {
  private var entry: pollfd

  /// Waits until there is something to read, or the end. A negative descriptor is not waited for.
  static func reading(_ descriptor: Int32) -> PollEntry { PollEntry(descriptor, POLLIN) }

  /// Waits until there is room to write, or a connection has been made or has failed.
  static func writing(_ descriptor: Int32) -> PollEntry { PollEntry(descriptor, POLLOUT) }

  private init(_ descriptor: Int32, _ event: Int32) {
    entry = pollfd(fd: descriptor, events: Int16(event), revents: 0)
  }

  /// Negative for none.
  var descriptor: Int32 { entry.fd }
  /// Whether the event has come, or an error.
  var isReady: Bool { entry.revents != 0 }
}

/// Waits until an entry is ready, a signal comes, or a moment in monotonic milliseconds (`.max` for ever).
func poll<let count: Int>(
  _ entries: inout InlineArray<count, PollEntry>, until deadline: Int64
) throws(SystemError) {
  var timeout: Int32 = -1
  if deadline < .max {
    let now = Clock.monotonicMilliseconds()
    timeout = deadline <= now ? 0 : Int32(clamping: deadline - now)
  }
  var span = entries.mutableSpan
  let result = unsafe span.withUnsafeMutableBytes { bytes in
    unsafe csys_poll(
      bytes.baseAddress?.assumingMemoryBound(to: pollfd.self), count, timeout)
  }
  guard result != -EINTR else { return }
  try SystemError.check(result)
}

/// Waits until one of two descriptors is ready to be read, a signal comes, or the moment. Returns which of them is
/// ready. A negative descriptor is not waited for.
func poll(
  _ first: Int32, _ second: Int32, until deadline: Int64
) throws(SystemError) -> (Bool, Bool) {
  var entries: InlineArray<2, PollEntry> = [.reading(first), .reading(second)]
  try poll(&entries, until: deadline)
  return (entries[0].isReady, entries[1].isReady)
}

/// Waits until a descriptor is ready to be read. Returns false if the moment (monotonic milliseconds) comes first.
func waitUntilReadable(_ descriptor: Int32, until deadline: Int64) throws(SystemError) -> Bool {
  repeat {
    if try poll(descriptor, -1, until: deadline).0 { return true }
  } while Clock.monotonicMilliseconds() < deadline
  return false
}
