import CSystem
import KnockBase

/// Pointers to NUL-terminated strings, and NULL after the last: the form in which execve(2) takes arguments and
/// environment. The strings must live as long as the list is used.
@safe struct StringList: ~Copyable {
  private let items: Storage<UnsafeMutablePointer<CChar>?>
  private(set) var count = 0

  /// Nil if out of memory.
  init?(capacity: Int) {
    guard let items = unsafe Storage<UnsafeMutablePointer<CChar>?>.mapped(capacity + 1) else {
      return nil
    }
    unsafe self.items = unsafe items
  }

  /// Valid as long as the list is.
  var pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? { unsafe items.baseAddress }

  /// Drops a string that exceeds the capacity.
  mutating func append(_ string: UnsafeMutablePointer<CChar>?) {
    guard unsafe count + 1 < items.count else { return }
    unsafe items[count] = unsafe string
    count += 1
    unsafe items[count] = nil
  }

  /// Removes all strings except the first `start`.
  mutating func removeAll(from start: Int) {
    count = min(start, count)
    unsafe items[count] = nil
  }
}

extension StorageText {
  /// The first byte. The memory is zeroed at first, so the text is a string if it leaves room for one more byte.
  var start: UnsafeMutablePointer<CChar>? {
    unsafe bytes.baseAddress.map { start in
      unsafe UnsafeMutableRawPointer(start).assumingMemoryBound(to: CChar.self)
    }
  }

  /// The place of the next byte.
  var end: UnsafeMutablePointer<CChar>? {
    guard let start = unsafe bytes.baseAddress else { return nil }
    return unsafe UnsafeMutableRawPointer(start + count).assumingMemoryBound(to: CChar.self)
  }
}
