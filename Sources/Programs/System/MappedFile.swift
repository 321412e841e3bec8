import CSystem
import KnockBase

/// A file mapped into memory, for the rest of the process. Source: mmap(2).
@safe struct MappedFile {
  private let start: UnsafeMutableRawPointer
  /// In bytes.
  let size: Int

  /// Maps the first `size` bytes.
  ///
  /// - Parameter reserving: whether to make the file as long first, with all its room on the disk.
  init(_ file: borrowing Descriptor, size: Int, reserving: Bool) throws(SystemError) {
    if reserving { try SystemError.check(csys_reserve(file.number, Int64(size))) }
    var error: Int32 = 0
    guard let start = unsafe csys_map_file(file.number, size, &error) else {
      throw SystemError(number: error)
    }
    unsafe self.start = unsafe start
    self.size = size
  }

  /// A part of the file: `count` elements from an offset in bytes.
  func storage<Element>(at offset: Int, count: Int) -> Storage<Element> {
    precondition(offset >= 0 && count >= 0)
    precondition(count <= (size - offset) / MemoryLayout<Element>.stride)
    let elements = unsafe (start + offset).bindMemory(to: Element.self, capacity: count)
    return unsafe Storage(adopting: UnsafeMutableBufferPointer(start: elements, count: count))
  }

  /// Keeps it out of processes that are forked later.
  func keepFromChildren() throws(SystemError) {
    try SystemError.check(unsafe csys_keep_from_children(start, size))
  }

  /// Frees the memory that holds the file. Pages that are used again are read again.
  func releasePages() { unsafe csys_release_pages(start, size) }

  /// Unmaps the file. No part of it may be used any more.
  func unmap() { unsafe csys_unmap(start, size) }
}
