def test_a(postgres): pass
def test_b(stack): assert {s.state for s in stack.status()} == {"ready"}
