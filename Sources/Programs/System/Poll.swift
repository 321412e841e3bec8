import CSystem
import KnockBase

/// Up to 64 descriptors to wait for, and which of them are ready. Source: poll(2).
struct PollSet {
  private var descriptors = InlineArray<64, Int32>(repeating: -1)
  private var count = 0
  private var readers: UInt64 = 0
  private var writers: UInt64 = 0
  private var ready: UInt64 = 0

  /// Adds a descriptor that is ready at an error, or when nothing can pass any more. A negative one is never ready.
  mutating func addWatch(_ descriptor: Int32) {
    guard count < descriptors.count else { return }
    descriptors[count] = descriptor
    count += 1
  }

  /// Whether there is no room for another descriptor.
  var isFull: Bool { count == descriptors.count }

  /// Adds a descriptor that is also ready if there is something to read, or at its end.
  mutating func addReader(_ descriptor: Int32) {
    readers |= 1 << UInt64(count)
    addWatch(descriptor)
  }

  /// Adds a descriptor that is also ready if there is room to write.
  mutating func addWriter(_ descriptor: Int32) {
    writers |= 1 << UInt64(count)
    addWatch(descriptor)
  }

  /// Waits until a descriptor is ready, a signal comes, or a moment in monotonic microseconds (`.max` for ever).
  @inline(never)
  mutating func wait(until deadline: Int64) throws(SystemError) {
    var timeout: Int64 = -1
    if deadline < .max {
      let now = SystemClock.monotonic()
      timeout = deadline <= now ? 0 : deadline - now
    }
    let result = unsafe descriptors.span.withUnsafeBufferPointer {
      unsafe csys_wait($0.baseAddress, count, readers, writers, timeout, &ready)
    }
    if result == -CSYS_EINTR { ready = 0 } else { try SystemError.check(result) }
  }

  /// - Parameter position: counts from 0 in the order in which the descriptors were added.
  func isReady(_ position: Int) -> Bool { ready >> UInt64(position) & 1 != 0 }
}

/// Waits until one of two descriptors is ready to be read, a signal comes, or a moment in monotonic microseconds
/// (`.max` for ever). Returns which of them are ready. A negative descriptor never is.
func poll(
  _ first: Int32, _ second: Int32, until deadline: Int64
) throws(SystemError) -> (Bool, Bool) {
  var set = PollSet()
  set.addReader(first)
  set.addReader(second)
  try set.wait(until: deadline)
  return (set.isReady(0), set.isReady(1))
}

/// Waits until a descriptor is ready to be read. Returns false if the moment (monotonic microseconds) comes first.
func waitUntilReadable(_ descriptor: Int32, until deadline: Int64) throws(SystemError) -> Bool {
  repeat {
    if try poll(descriptor, -1, until: deadline).0 { return true }
  } while SystemClock.monotonic() < deadline
  return false
}
