import CSystem
import KnockBase

/// Pointers to NUL-terminated strings, and NULL behind the last: what execve(2) takes as arguments
/// and environment. The strings must outlive their use.
@safe struct StringList: ~Copyable {
  private let items: Storage<UnsafeMutablePointer<CChar>?>
  private(set) var count = 0

  /// Nil where the system has no memory.
  init?(capacity: Int) {
    guard let items = unsafe Storage<UnsafeMutablePointer<CChar>?>.mapped(capacity + 1) else {
      return nil
    }
    unsafe self.items = unsafe items
  }

  /// Valid as long as the value, with what it holds at the time of use.
  var pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? { unsafe items.baseAddress }

  /// What exceeds the capacity is dropped.
  mutating func append(_ string: UnsafeMutablePointer<CChar>?) {
    guard unsafe count + 1 < items.count else { return }
    unsafe items[count] = unsafe string
    count += 1
    unsafe items[count] = nil
  }

  /// Keeps the first `start` strings only.
  mutating func removeAll(from start: Int) {
    count = min(start, count)
    unsafe items[count] = nil
  }
}

extension StorageText {
  /// Where its first byte stands. The memory is zeroed at first, so the text is a string as long as there is
  /// room for another byte.
  var start: UnsafeMutablePointer<CChar>? {
    unsafe bytes.baseAddress.map { start in
      unsafe UnsafeMutableRawPointer(start).assumingMemoryBound(to: CChar.self)
    }
  }

  /// Where the next byte will stand.
  var end: UnsafeMutablePointer<CChar>? {
    guard let start = unsafe bytes.baseAddress else { return nil }
    return unsafe UnsafeMutableRawPointer(start + count).assumingMemoryBound(to: CChar.self)
  }
}
