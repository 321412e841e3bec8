import CSystem
import KnockBase

extension Storage {
  /// Zeroed memory for `count` elements (at least 1), for the rest of the process: nil where the
  /// system has none. A page takes room only once it is touched, and what is small shares pages.
  /// Source: mmap(2).
  static func mapped(_ count: Int) -> Storage<Element>? {
    let (size, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
    guard count > 0, !overflow, let pages = unsafe csys_allocate(size) else { return nil }
    let start = unsafe pages.bindMemory(to: Element.self, capacity: count)
    return unsafe Storage(adopting: UnsafeMutableBufferPointer(start: start, count: count))
  }
}

extension PositionIndex {
  /// Nil where the system has no memory.
  static func mapped(forRecords count: Int) -> PositionIndex? {
    guard let slots = Storage<UInt32>.mapped(Self.count(forRecords: count)) else { return nil }
    return PositionIndex(slots)
  }
}
