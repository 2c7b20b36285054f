package losses

import (
	"fmt"
	"math"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
)

// dual is a number with its derivative: v + d·ε, ε² = 0. An expression that is
// evaluated in duals gives its own derivative, exactly.
type dual struct{ v, d float64 }

// node and cond are compiled expressions of one variable. Expressions are
// parsed by expr-lang and compiled to closures instead of being run by its
// virtual machine, which boxes every number: a loss is evaluated for every
// trajectory of every update and must not allocate.
type (
	node func(x dual) dual
	cond func(x dual) bool
)

// compileExpression compiles text, an expression of the named variable.
func compileExpression(text, variable string) (node, error) {
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("losses: expression %q: %w", text, err)
	}
	n, err := compiler{variable}.number(tree.Node)
	if err != nil {
		return nil, fmt.Errorf("losses: expression %q: %w", text, err)
	}
	return n, nil
}

type compiler struct{ variable string }

func (c compiler) number(n ast.Node) (node, error) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return constant(float64(n.Value)), nil
	case *ast.FloatNode:
		return constant(n.Value), nil
	case *ast.IdentifierNode:
		return c.identifier(n.Value)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.BuiltinNode:
		return c.call(n.Name, n.Arguments)
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(callee.Value, n.Arguments)
		}
	}
	return nil, fmt.Errorf("%q is not a number; use %s, numbers, + - * / ^, comparisons with ?:, and %s", n, c.variable, functionNames)
}

func constant(v float64) node { return func(dual) dual { return dual{v: v} } }

func (c compiler) identifier(name string) (node, error) {
	switch name {
	case c.variable:
		return func(x dual) dual { return x }, nil
	case "pi":
		return constant(math.Pi), nil
	case "e":
		return constant(math.E), nil
	}
	return nil, fmt.Errorf("unknown name %q; the variable is %s", name, c.variable)
}

func (c compiler) unary(n *ast.UnaryNode) (node, error) {
	a, err := c.number(n.Node)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "+":
		return a, nil
	case "-":
		return func(x dual) dual { y := a(x); return dual{-y.v, -y.d} }, nil
	}
	return nil, fmt.Errorf("operator %q does not give a number", n.Operator)
}

func (c compiler) binary(n *ast.BinaryNode) (node, error) {
	op, ok := operators[n.Operator]
	if !ok {
		return nil, fmt.Errorf("operator %q does not give a number", n.Operator)
	}
	a, b, err := c.pair(n.Left, n.Right)
	if err != nil {
		return nil, err
	}
	return func(x dual) dual { return op(a(x), b(x)) }, nil
}

func (c compiler) pair(left, right ast.Node) (a, b node, err error) {
	if a, err = c.number(left); err != nil {
		return nil, nil, err
	}
	b, err = c.number(right)
	return a, b, err
}

func (c compiler) conditional(n *ast.ConditionalNode) (node, error) {
	test, err := c.truth(n.Cond)
	if err != nil {
		return nil, err
	}
	a, b, err := c.pair(n.Exp1, n.Exp2)
	if err != nil {
		return nil, err
	}
	return func(x dual) dual {
		if test(x) {
			return a(x)
		}
		return b(x)
	}, nil
}

// truth compiles the condition of ?:.
func (c compiler) truth(n ast.Node) (cond, error) {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			a, err := c.truth(n.Node)
			if err != nil {
				return nil, err
			}
			return func(x dual) bool { return !a(x) }, nil
		}
	case *ast.BinaryNode:
		if compare, ok := comparisons[n.Operator]; ok {
			a, b, err := c.pair(n.Left, n.Right)
			if err != nil {
				return nil, err
			}
			return func(x dual) bool { return compare(a(x).v, b(x).v) }, nil
		}
		return c.connective(n)
	}
	return nil, fmt.Errorf("%q is not a condition; compare two numbers", n)
}

func (c compiler) connective(n *ast.BinaryNode) (cond, error) {
	isAnd := n.Operator == "&&" || n.Operator == "and"
	if !isAnd && n.Operator != "||" && n.Operator != "or" {
		return nil, fmt.Errorf("%q is not a condition; compare two numbers", n)
	}
	a, err := c.truth(n.Left)
	if err != nil {
		return nil, err
	}
	b, err := c.truth(n.Right)
	if err != nil {
		return nil, err
	}
	if isAnd {
		return func(x dual) bool { return a(x) && b(x) }, nil
	}
	return func(x dual) bool { return a(x) || b(x) }, nil
}

func (c compiler) call(name string, args []ast.Node) (node, error) {
	if f, ok := functions[name]; ok && len(args) == 1 {
		a, err := c.number(args[0])
		if err != nil {
			return nil, err
		}
		return func(x dual) dual {
			y := a(x)
			v, slope := f(y.v)
			return dual{v, chain(slope, y.d)}
		}, nil
	}
	if op, ok := functions2[name]; ok && len(args) == 2 {
		a, b, err := c.pair(args[0], args[1])
		if err != nil {
			return nil, err
		}
		return func(x dual) dual { return op(a(x), b(x)) }, nil
	}
	return nil, fmt.Errorf("no function %s of %d arguments; there are %s", name, len(args), functionNames)
}

// chain is slope·d, 0 where nothing varies even if the slope is infinite.
func chain(slope, d float64) float64 {
	if d == 0 {
		return 0
	}
	return slope * d
}
