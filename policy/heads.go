package policy

// flow is the place of the head of log F(s) behind those of the two directions.
const flow Direction = 2

// head is a layer that reads a network's output: one of the policies, or the flow.
// Its matrix has shape [out, in], because most heads have few outputs.
type head struct {
	dense
	uniform bool // no parameters: a uniform policy, or no flow
}

// heads are those of P_F, P_B and log F, by Direction.
type heads [3]head

// newHeads are the heads of a network with so many outputs, without their tensors.
func newHeads(in, actions, backwardActions int, uniformBackward, flows bool) heads {
	return heads{
		Forward:  {dense: dense{in: in, out: actions}},
		Backward: {dense: dense{in: in, out: backwardActions}, uniform: uniformBackward || backwardActions == 0},
		flow:     {dense: dense{in: in, out: 1}, uniform: !flows},
	}
}

// outs are the outputs of those that have parameters.
func (h *heads) outs() (widths []int) {
	for _, d := range h.learned() {
		widths = append(widths, d.out)
	}
	return widths
}

// learned are those that have parameters.
func (h *heads) learned() (all []dense) {
	for _, d := range h {
		if !d.uniform {
			all = append(all, d.dense)
		}
	}
	return all
}

// append puts the tensors of those that have some behind a layout.
func (h *heads) append(l *Layout) {
	for dir, as := range [3]struct{ name, group string }{{"forward", GroupForward}, {"backward", GroupBackward}, {"flow", GroupFlow}} {
		if d := &h[dir]; !d.uniform {
			d.dense = l.addAs(as.name, as.group, d.in, d.out, d.out, d.in)
		}
	}
}
