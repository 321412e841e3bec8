import CSodium
import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// The keys for the answers to the users of version 2. Nobody can knock with them. No process that is forked gets them.
@safe struct AnswerKeys: ~Copyable {
  private struct Pair: BitwiseCopyable {
    let tag: InlineArray<32, UInt8>
    let mask: InlineArray<32, UInt8>
  }

  /// By slot of the user. Only those of users of version 2 are touched.
  private let pairs: Storage<Pair>

  /// Nil if out of memory.
  init?() {
    let size = Users.slotCount * MemoryLayout<Pair>.stride
    guard let table = unsafe csys_allocate_answer_keys(size) else { return nil }
    pairs = unsafe Storage(
      adopting: UnsafeMutableBufferPointer(
        start: table.bindMemory(to: Pair.self, capacity: Users.slotCount), count: Users.slotCount))
  }

  /// Sets the keys of a user.
  func put(_ key: borrowing KeyedMAC, slot: Int) {
    guard key.version == 2 else { return }
    let keys = unsafe key.keys
    pairs[slot] = unsafe Pair(tag: keys.pointee.answerTag, mask: keys.pointee.answerMask)
  }

  func remove(slot: Int) {
    unsafe sodium_memzero(pairs.address(of: slot), MemoryLayout<Pair>.size)
  }

  /// Seals an answer to the request with this tag of a user of version 2.
  func seal(_ answer: Version2.Answer, to tag: Span<UInt8>, slot: Int) -> Datagram {
    let pair = unsafe pairs.address(of: slot)
    return unsafe pair.pointee.tag.span.withUnsafeBufferPointer { tagKey in
      unsafe pair.pointee.mask.span.withUnsafeBufferPointer { maskKey in
        unsafe Datagram(
          answer, to: tag, tagKey: DerivedKey(tagKey), maskKey: DerivedKey(maskKey))
      }
    }
  }
}
