package policiestest

import (
	"embed"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

//go:embed testdata/access-levels.json testdata/delegation.json
var vectorFiles embed.FS

// Vector is one world of vectors/access-levels.json with its checks.
type Vector struct {
	Name     string
	Why      string
	Import   jsontext.Value    // the account document as the file has it, to be imported
	Document policies.Document // the same, decoded
	Checks   []VectorCheck
}

// VectorCheck is a question and the answer that is expected. Level and Roles are
// empty where none is expected, Policies where the reason is not granted.
type VectorCheck struct {
	Subject  policies.AccountID  `json:"subject"`
	Action   policies.ActionName `json:"action"`
	Resource policies.Resource   `json:"resource"`
	Decision bool                `json:"decision"`
	Reason   policies.Reason     `json:"reason"`
	Level    policies.Level      `json:"level"`
	Roles    []string            `json:"roles"`
	Policies []policies.PolicyID `json:"policies"`
}

// Question is the check's question.
func (c VectorCheck) Question() Question {
	return Question{
		SubjectType: "account", Subject: string(c.Subject), Action: string(c.Action),
		ResourceType: string(c.Resource.Type), ResourceID: c.Resource.ID,
	}
}

// Vectors are the worlds of vectors/access-levels.json.
func Vectors() ([]Vector, error) {
	var file struct {
		Worlds []struct {
			Name    string         `json:"name"`
			Why     string         `json:"why"`
			Account jsontext.Value `json:"account"`
			Checks  []VectorCheck  `json:"checks"`
		} `json:"worlds"`
	}
	if err := readVectors("access-levels.json", &file); err != nil {
		return nil, err
	}
	vectors := make([]Vector, len(file.Worlds))
	for i, w := range file.Worlds {
		d, err := policies.DecodeDocument(w.Account)
		if err != nil {
			return nil, fmt.Errorf("the world %q: %w", w.Name, err)
		}
		vectors[i] = Vector{w.Name, w.Why, w.Account, d, w.Checks}
	}
	return vectors, nil
}

// Delegation is one case of vectors/delegation.json: a write by a member, and
// whether the no-gain rule lets it pass (domain.md, Who may change what).
type Delegation struct {
	Name    string             `json:"name"`
	Why     string             `json:"why"`
	Account jsontext.Value     `json:"account"` // the document to be imported
	By      policies.AccountID `json:"by"`
	Method  string             `json:"method"`
	Path    string             `json:"path"` // {x} is the member id of the account x at the owner
	Body    jsontext.Value     `json:"body"`
	Allowed bool               `json:"allowed"`
}

// Delegations are the cases of vectors/delegation.json.
func Delegations() ([]Delegation, error) {
	var file struct {
		Cases []Delegation `json:"cases"`
	}
	err := readVectors("delegation.json", &file)
	return file.Cases, err
}

func readVectors(name string, v any) error {
	data, err := vectorFiles.ReadFile("testdata/" + name)
	if err != nil {
		return fmt.Errorf("read the vectors %s: %w", name, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode the vectors %s: %w", name, err)
	}
	return nil
}
