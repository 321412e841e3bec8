import CSystem
import KnockBase

extension Storage {
  /// Zeroed memory for `count` elements (at least 1), for the rest of the process; nil if out of memory. Pages are
  /// free until they are touched, and small pieces share a page. Source: mmap(2).
  // Only what is the same for all elements is a function.
  @inline(__always)
  static func mapped(_ count: Int) -> Storage<Element>? {
    guard let pages = unsafe allocate(count, stride: MemoryLayout<Element>.stride) else {
      return nil
    }
    let start = unsafe pages.bindMemory(to: Element.self, capacity: count)
    return unsafe Storage(adopting: UnsafeMutableBufferPointer(start: start, count: count))
  }

  /// The same, shared with the processes that this one forks.
  static func shared(_ count: Int) -> Storage<Element>? {
    guard let pages = unsafe csys_map_shared(count * MemoryLayout<Element>.stride) else {
      return nil
    }
    let start = unsafe pages.bindMemory(to: Element.self, capacity: count)
    return unsafe Storage(adopting: UnsafeMutableBufferPointer(start: start, count: count))
  }

  /// The size in bytes.
  var size: Int { count &* MemoryLayout<Element>.stride }

  /// Gives memory from `mapped` back, if the system can have it.
  consuming func unmap() { unsafe csys_release(baseAddress, size) }

  /// The same memory as numbers of 8 bytes. It must outlive both values.
  var numbers: Storage<UInt64> {
    let pages = unsafe UnsafeMutableRawPointer(baseAddress)
    let first = unsafe pages?.bindMemory(to: UInt64.self, capacity: size / 8)
    return unsafe Storage<UInt64>(
      adopting: UnsafeMutableBufferPointer(start: first, count: size / 8))
  }
}

@inline(never)
private func allocate(_ count: Int, stride: Int) -> UnsafeMutableRawPointer? {
  let (size, overflow) = count.multipliedReportingOverflow(by: stride)
  return count > 0 && !overflow ? unsafe csys_allocate(size) : nil
}

extension Storage<UInt8> {
  /// The same memory from an offset on. It must outlive both values.
  func part(from start: Int) -> Storage<UInt8> { part(start..<count) }

  /// A part of the same memory. It must outlive both values.
  func part(_ range: Range<Int>) -> Storage<UInt8> {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    let first = unsafe baseAddress.map { unsafe $0 + range.lowerBound }
    return unsafe Storage(
      adopting: UnsafeMutableBufferPointer(start: first, count: range.count))
  }

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
