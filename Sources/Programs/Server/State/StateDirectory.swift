import CSystem
import KnockBase

/// The directory in which a server keeps what must outlive it. While a value exists no other server
/// can have the directory.
struct StateDirectory: ~Copyable {
  let path: Argument
  private let descriptor: Descriptor

  /// - Parameter onlyChecks: whether nothing may be made or locked.
  /// - Throws: EWOULDBLOCK where another server has it, EACCES where somebody else can write to it,
  ///   and what open(2) and mkdir(2) do.
  init(_ path: Argument, onlyChecks: Bool) throws(SystemError) {
    let descriptor = Descriptor(
      owning: try SystemError.check(
        unsafe csys_open_state_directory(path.pointer, onlyChecks ? 0 : 1)))
    if !onlyChecks {
      // A command that a server began when it was killed has the lock until it is another program.
      let deadline = Clock.monotonicMilliseconds() + Clock.afterlife
      var result = csys_lock(descriptor.number)
      while result == -EWOULDBLOCK, Clock.monotonicMilliseconds() < deadline {
        Clock.pause(milliseconds: 10)
        result = csys_lock(descriptor.number)
      }
      _ = try SystemError.check(result)
    }
    self.path = path
    self.descriptor = descriptor
  }

  /// Opens a file in it. Nil where there is none, and `making` is none of O_CREAT and O_TRUNC.
  func open(_ name: StaticString, making flags: Int32) throws(SystemError) -> Descriptor? {
    let result = unsafe csys_open_state_file(descriptor.number, name.cString, flags)
    if result == -ENOENT, flags == 0 { return nil }
    return Descriptor(owning: try SystemError.check(result))
  }

  func rename(_ old: StaticString, to new: StaticString) throws(SystemError) {
    _ = try SystemError.check(unsafe csys_rename(descriptor.number, old.cString, new.cString))
    _ = csys_sync(descriptor.number)
  }
}

/// A file mapped into memory, for the rest of the process.
@safe struct MappedFile {
  private let start: UnsafeMutableRawPointer
  /// In bytes.
  let size: Int

  /// Maps the first `size` bytes. With `reserving`, the file gets that size first.
  init(_ file: borrowing Descriptor, size: Int, reserving: Bool) throws(SystemError) {
    if reserving { _ = try SystemError.check(csys_reserve(file.number, Int64(size))) }
    var error: Int32 = 0
    guard let start = unsafe csys_map_file(file.number, size, &error) else {
      throw SystemError(number: error)
    }
    unsafe self.start = unsafe start
    self.size = size
  }

  /// A part of it: `count` elements from an offset in bytes.
  func storage<Element>(at offset: Int, count: Int) -> Storage<Element> {
    precondition(offset >= 0 && count >= 0)
    precondition(count <= (size - offset) / MemoryLayout<Element>.stride)
    let elements = unsafe (start + offset).bindMemory(to: Element.self, capacity: count)
    return unsafe Storage(adopting: UnsafeMutableBufferPointer(start: elements, count: count))
  }

  /// Keeps it out of processes that are forked later.
  func keepFromChildren() throws(SystemError) {
    _ = try SystemError.check(unsafe csys_keep_from_children(start, size))
  }

  /// Lets go of the memory that holds it. What is used again comes back from the file.
  func releasePages() { unsafe csys_release_pages(start, size) }

  /// Unmaps it. Nothing of it may be used any more.
  func unmap() { unsafe munmap(start, size) }
}
