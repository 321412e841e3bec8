import Testing

@testable import KnockServer

@Suite struct ShellSyntaxTests {
  @Test(
    arguments: [
      ("", nil), ("gate add $ip", nil), ("gate ${ip}/32 $af $cmd $$ip $1 $", nil),
      ("a { $ip }", nil),
      ("a 'b | c > $HOME `d` $(e)'", nil), ("a \"b | c; d\"", nil), ("a \\; b\\|c \\$HOME", nil),
      ("a b#c d~e", nil), ("a '\\' b", nil), ("a=b c?d [e]", nil),
      ("a | b", "|"), ("a && b", "&"), ("a; b", ";"), ("a > b", ">"), ("a 2>&1", ">"),
      ("a < b", "<"),
      ("(a)", "("), ("a `b`", "`"), ("a \"`b`\"", "`"), ("a $(b)", "$"), ("a \"$(b)\"", "$"),
      ("a $HOME", "$"),
      ("a ${HOME}", "$"), ("a $ipx", "$"), ("a *", "*"), ("~/a $ip", "~"), ("a # b", "#"),
      ("a 'b' \"c\" | d", "|"), ("a $ip|b", "|"),
    ] as [(String, Character?)])
  func `what only a shell understands`(text: String, expected: Character?) {
    let found = ShellSyntax.first(in: Array(text.utf8).span)
    #expect(found.map { Character(Unicode.Scalar($0)) } == expected)
  }

  @Test(arguments: [
    ("a $ip", true), ("${ip}", true), ("$af $cmd", false), ("$$ip", false), ("$IP $ipx", false),
    ("", false), ("$af$ip", true),
  ])
  func `whether a template names the address`(text: String, expected: Bool) {
    #expect(Template.namesAddress(Array(text.utf8).span) == expected)
  }
}
