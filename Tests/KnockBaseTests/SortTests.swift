import KnockBase
import TestSupport
import Testing

@Test func aSortPutsEveryOrderInOrder() {
  var generator = Generator(seed: 8)
  for count in 0..<200 {
    var numbers = (0..<count).map { _ in Int.random(in: 0..<(count / 2 + 1), using: &generator) }
    let expected = numbers.sorted()
    numbers.withUnsafeMutableBufferPointer { numbers in
      sort(count) {
        numbers[$0] < numbers[$1]
      } swap: {
        numbers.swapAt($0, $1)
      }
    }
    #expect(numbers == expected)
  }
}
