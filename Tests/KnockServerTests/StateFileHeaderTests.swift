import KnockBase
import TestSupport
import Testing

@testable import KnockServer

private func numbers(_ kind: FileHeader.Kind, capacity: Int) -> [UInt64] {
  let page = storage(FileHeader.pageSize / 8, of: UInt64.self)
  FileHeader.write(kind, capacity: capacity, to: page)
  return (0..<page.count).map { page[$0] }
}

private func capacity(_ numbers: [UInt64], _ kind: FileHeader.Kind = .replay) -> Result<
  Int, FileHeader.Failure
> {
  let page = storage(numbers.count, of: UInt64.self)
  for (index, number) in numbers.enumerated() { page[index] = number }
  do throws(FileHeader.Failure) {
    return .success(try FileHeader.capacity(of: page, kind))
  } catch { return .failure(error) }
}

/// With the right checksum.
private func header(
  _ version: UInt64, _ capacity: UInt64, _ kind: FileHeader.Kind = .replay
) -> [UInt64] {
  var sum = Checksum()
  for number in [kind.rawValue, version, capacity] { sum.add(number) }
  return [kind.rawValue, version, capacity, sum.value]
}

@Suite struct StateFileHeaderTests {
  @Test func `headers have the same form in each version`() {
    #expect(
      numbers(.replay, capacity: 1000)
        == [0x6B_636F_6E6B_7970, 3, 1000, 0x214_380A_B12D_FBF8]
        + [UInt64](repeating: 0, count: 508))
    #expect(
      numbers(.grants, capacity: 1000)
        == [0x476B_636F_6E6B_7970, 4, 1000, 0xED13_1D8B_3226_EF6E]
        + [UInt64](repeating: 0, count: 508))
    #expect(numbers(.users, capacity: 64)[0] == 0x556B_636F_6E6B_7970)
  }

  @Test func `only a capacity that can be is taken`() {
    for number in [1, 2, 1 << 24] as [UInt64] {
      #expect(capacity(header(3, number)) == .success(Int(number)))
    }
    for number in [0, 1 << 24 + 1, 1 << 63, .max] as [UInt64] {
      #expect(capacity(header(3, number)) == .failure(.damagedHeader))
    }
  }

  @Test func `only this version is taken`() {
    #expect(capacity(header(0, 5)) == .failure(.older))
    #expect(capacity(header(2, 5)) == .failure(.older))
    #expect(capacity(header(4, 5)) == .failure(.newer(version: 4)))
    #expect(capacity(header(.max, 5)) == .failure(.newer(version: .max)))
  }

  @Test func `grants have a version of their own`() {
    for (version, expected) in [
      (3, .failure(.older)), (4, .success(5)), (5, .failure(.newer(version: 5))),
    ] as [(UInt64, Result<Int, FileHeader.Failure>)] {
      #expect(capacity(header(version, 5, .grants), .grants) == expected)
    }
  }

  @Test func `each number counts for the checksum`() {
    for index in 2..<4 {
      var numbers = header(3, 5)
      numbers[index] ^= 8
      #expect(capacity(numbers) == .failure(.damagedHeader), "\(index)")
    }
  }

  @Test func `what is all zero is damaged, and anything else is foreign`() {
    #expect(capacity([0, 0, 0, 0]) == .failure(.damagedHeader))
    #expect(capacity([1, 0, 0, 0]) == .failure(.foreign))
    #expect(capacity([0, 0, 0, 1]) == .failure(.foreign))
    #expect(capacity(header(3, 5), .grants) == .failure(.foreign))
  }
}
