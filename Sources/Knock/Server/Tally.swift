import CSystem
import KnockProtocol

/// Numbers that both halves of the server see. The receiver counts what it has met, for the executor to
/// print; the executor tells how many knocks it has taken care of, for the receiver to know whether
/// another one may come. Neither decides anything else by a number of the other.
@safe struct Tally {
  private static let acceptedIndex = Refusal.Counters.count

  private let counters: UnsafeMutablePointer<UInt64>
  private let handled: UnsafeMutablePointer<UInt32>

  init() throws(SystemError) {
    let count = Self.acceptedIndex + 1
    let size = count * MemoryLayout<UInt64>.stride
    guard let memory = unsafe csys_map_shared(size + MemoryLayout<UInt32>.stride) else {
      throw SystemError(number: ENOMEM)
    }
    unsafe counters = unsafe memory.bindMemory(to: UInt64.self, capacity: count)
    unsafe handled = unsafe (memory + size).bindMemory(to: UInt32.self, capacity: 1)
  }

  /// By the receiver only.
  func count(_ refusal: Refusal) { unsafe counters[Int(refusal.rawValue)] += 1 }

  /// By the receiver only.
  func countAccepted() { unsafe counters[Self.acceptedIndex] += 1 }

  var accepted: UInt64 { unsafe counters[Self.acceptedIndex] }
  func refused(_ refusal: Refusal) -> UInt64 { unsafe counters[Int(refusal.rawValue)] }

  /// How many knocks are in no queue any more, modulo 2^32. Set by the executor only.
  var handledCount: UInt32 {
    get { unsafe csys_load(handled) }
    nonmutating set { unsafe csys_store(handled, newValue) }
  }
}
