import KnockBase

/// The addresses that a host was opened for, each once, so that `--close` closes them from wherever the client is then.
/// The process that closes shares them with its child, which may open for more.
struct OpenedAddresses: ~Copyable {
  private struct Place: BitwiseCopyable {
    var address: Address
    var isUsed: Bool
    var isClosed: Bool
  }

  /// As many as a page has room for: more than a client has while it waits.
  private static let capacity = 170

  private let places: Storage<Place>

  init() throws(SystemError) {
    guard let places = Storage<Place>.shared(Self.capacity) else { throw .outOfMemory }
    self.places = places
  }

  /// The address at an index; nil after the last.
  subscript(index: Int) -> Address? {
    index < places.count && places[index].isUsed ? places[index].address : nil
  }

  /// Adds an address before it is opened. What could not be closed again must not be opened.
  func insert(_ address: Address) throws(SystemError) {
    let index = place(of: address)
    guard index < places.count else { throw .outOfMemory }
    places[index] = Place(address: address, isUsed: true, isClosed: false)
  }

  /// Records that an address is closed, if it was opened.
  func close(_ address: Address) {
    let index = place(of: address)
    if self[index] != nil { places[index].isClosed = true }
  }

  /// The index of an address, or of the first free place if it was not opened.
  @inline(never)
  private func place(of address: Address) -> Int {
    var index = 0
    while let other = self[index], other != address { index += 1 }
    return index
  }

  /// Returns an address that has not been closed, once.
  func takeUnclosed() -> Address? {
    var index = 0
    while let address = self[index] {
      guard places[index].isClosed else {
        places[index].isClosed = true
        return address
      }
      index += 1
    }
    return nil
  }
}
