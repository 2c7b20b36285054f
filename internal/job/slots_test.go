package job

import "testing"

// TestMaxSlots: what is not set does not travel, so that older nodes can read
// the job; what is set is found without decoding the rest.
func TestMaxSlots(t *testing.T) {
	spec := Default()
	spec.Name, spec.Env.Name = "capped", "hypergrid"
	for _, n := range []int{0, 1, 64} {
		spec.Mesh.MaxSlots = n
		data, err := spec.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if got := MaxSlots(data); got != n {
			t.Errorf("%d slots of %s, want %d", got, data, n)
		}
		back, err := FromJSON(data)
		if err != nil || back.Mesh.MaxSlots != n {
			t.Errorf("%+v, %v", back, err)
		}
	}
	if MaxSlots([]byte("{")) != 0 {
		t.Error("nonsense has slots")
	}
}
