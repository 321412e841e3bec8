import CSystem

/// A list with room for a fixed number of values. They stay where they are, in memory that is mapped for the rest of
/// the process.
@safe struct FixedList<Element: ~Copyable>: ~Copyable {
  private let elements: UnsafeMutablePointer<Element>
  let capacity: Int
  private(set) var count = 0

  init(capacity: Int) throws(SystemError) {
    guard let memory = unsafe csys_allocate(capacity * MemoryLayout<Element>.stride) else {
      throw .outOfMemory
    }
    unsafe elements = unsafe memory.bindMemory(to: Element.self, capacity: capacity)
    self.capacity = capacity
  }

  deinit { unsafe elements.deinitialize(count: count) }

  /// There must be room.
  mutating func append(_ element: consuming Element) {
    precondition(count < capacity)
    unsafe (elements + count).initialize(to: element)
    count += 1
  }

  subscript(index: Int) -> Element {
    unsafeAddress {
      precondition(index >= 0 && index < count)
      return unsafe UnsafePointer(elements + index)
    }
    unsafeMutableAddress {
      precondition(index >= 0 && index < count)
      return unsafe elements + index
    }
  }
}
