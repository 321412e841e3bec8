import CSystem
import KnockBase

extension Storage {
  /// Zeroed memory for `count` elements (at least 1), for the rest of the process; nil if out of memory. Pages are
  /// free until they are touched, and small pieces share a page. Source: mmap(2).
  static func mapped(_ count: Int) -> Storage<Element>? {
    let (size, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
    guard count > 0, !overflow, let pages = unsafe csys_allocate(size) else { return nil }
    let start = unsafe pages.bindMemory(to: Element.self, capacity: count)
    return unsafe Storage(adopting: UnsafeMutableBufferPointer(start: start, count: count))
  }
}

extension Storage<UInt8> {
  /// Makes `mapped` take all memory from a range of these bytes, which are zeroed first. `useSystemMemory` ends this.
  func useAsMemory(_ range: Range<Int>) {
    unsafe csys_allocate_in(baseAddress.map { unsafe $0 + range.lowerBound }, range.count)
  }

  static func useSystemMemory() { csys_allocate_in(nil, 0) }

  /// Returns pages of memory to the system. What was in them is lost.
  func releasePages() { unsafe csys_release_pages(baseAddress, count) }
}

extension PositionIndex {
  /// Nil if out of memory.
  static func mapped(forRecords count: Int) -> PositionIndex? {
    guard let slots = Storage<UInt32>.mapped(Self.count(forRecords: count)) else { return nil }
    return PositionIndex(slots)
  }
}
