import CSystem
import KnockBase
import KnockProtocol

/// Numbers in memory that both processes share. The receiver counts what it has met, and the executor shows it. The
/// executor counts the knocks that it is done with, so that the receiver knows whether there is room for another.
/// Neither uses a number of the other for anything else.
@safe struct Tally {
  private static let acceptedIndex = Int(Refusal.count)
  private static let skewIndex = acceptedIndex + 1
  private static let droppedIndex = skewIndex + 1
  private static let counterCount = droppedIndex + 1

  private let counters: UnsafeMutablePointer<UInt64>
  private let handled: UnsafeMutablePointer<UInt32>
  private let beats: UnsafeMutablePointer<UInt32>

  init() throws(SystemError) {
    let size = Self.counterCount * MemoryLayout<UInt64>.stride
    guard let memory = unsafe csys_map_shared(size + 2 * MemoryLayout<UInt32>.stride) else {
      throw .outOfMemory
    }
    unsafe counters = unsafe memory.bindMemory(to: UInt64.self, capacity: Self.counterCount)
    unsafe handled = unsafe (memory + size).bindMemory(to: UInt32.self, capacity: 2)
    unsafe beats = unsafe handled + 1
  }

  /// By the receiver only.
  func count(_ refusal: Refusal) { unsafe counters[Int(refusal.rawValue)] += 1 }

  /// By the receiver only.
  func countAccepted() { unsafe counters[Self.acceptedIndex] += 1 }

  /// Records how far the clock of a sender with the key is ahead of ours (microseconds). By the receiver only.
  func record(clockSkew: Int64) {
    guard clockSkew.magnitude <= Microseconds.longest.magnitude else { return }
    unsafe counters[Self.skewIndex] = UInt64(bitPattern: clockSkew)
  }

  /// The last clock skew (microseconds); 0 before the first.
  var clockSkew: Int64 {
    let skew = unsafe Int64(bitPattern: counters[Self.skewIndex])
    return skew.magnitude <= Microseconds.longest.magnitude ? skew : 0
  }

  var accepted: UInt64 { unsafe counters[Self.acceptedIndex] }
  func refused(_ refusal: Refusal) -> UInt64 { unsafe counters[Int(refusal.rawValue)] }

  /// Records how many datagrams the kernel has dropped. By the receiver only, which alone has the socket.
  func record(kernelDropped: UInt64) {
    unsafe counters[Self.droppedIndex] = kernelDropped
  }

  /// As of the receiver's last round.
  var kernelDropped: UInt64 { unsafe counters[Self.droppedIndex] }

  /// The rounds of the receiver's loop, modulo 2^32. Set by the receiver only.
  var beatCount: UInt32 {
    get { unsafe csys_load(beats) }
    nonmutating set { unsafe csys_store(beats, newValue) }
  }

  /// How many knocks have left the executor's queue, modulo 2^32. Set by the executor only.
  var handledCount: UInt32 {
    get { unsafe csys_load(handled) }
    nonmutating set { unsafe csys_store(handled, newValue) }
  }
}
