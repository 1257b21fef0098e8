package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// Server is the running server, as far as the first boot needs it. What exists already
// is an im.Exists error and no failure: a plug may have been pulled after it.
type Server interface {
	// AddTenant adds the organisation. kind is school, office or open.
	AddTenant(ctx context.Context, id, name, kind string) error
	// AddOwner adds the first administrator, who can't sign in yet.
	AddOwner(ctx context.Context, tenant, username, name string) error
	// SetUpCode returns a new code with which that person comes in for the first time;
	// codes given before end.
	SetUpCode(ctx context.Context, tenant, username string) (string, error)
	// ImportRoster adds the people of one list; name is the file's, for the report.
	ImportRoster(ctx context.Context, tenant, name string, data []byte) error
}

// SetUp is what the box's screen shows until the administrator came in.
type SetUp struct {
	TenantID     string `json:"tenant_id"`
	Organisation string `json:"organisation"`
	Username     string `json:"username"`
	Code         string `json:"code"`
}

// SetUpName is the file that holds it, below Host.Root: root reads it, nobody else.
const SetUpName = "etc/pipit/set-up.json"

// maxRosterBytes bounds one list: 100 bytes a line for 20,000 people, twice.
const maxRosterBytes = 4 << 20

// Enroll makes the organisation, its administrator and the people on the lists of the
// boot partition's roster folder, and keeps the set-up code for the screen. It may be
// done again. Problems are about the lists; the rest is done all the same.
func (h Host) Enroll(ctx context.Context, p Pending, folder string, server Server) ([]Problem, error) {
	if err := server.AddTenant(ctx, p.TenantID, p.Organisation, p.Kind); err != nil && !exists(err) {
		return nil, fmt.Errorf("add organisation %s: %w", p.TenantID, err)
	}
	if err := server.AddOwner(ctx, p.TenantID, p.Username, p.Administrator); err != nil && !exists(err) {
		return nil, fmt.Errorf("add administrator %s: %w", p.Username, err)
	}
	code, err := server.SetUpCode(ctx, p.TenantID, p.Username)
	if err != nil {
		return nil, fmt.Errorf("set-up code: %w", err)
	}
	b, err := json.MarshalIndent(SetUp{TenantID: p.TenantID, Organisation: p.Organisation, Username: p.Username, Code: code}, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := h.write(SetUpName, string(b)+"\n", 0o600); err != nil {
		return nil, err
	}
	return h.rosters(ctx, p.TenantID, filepath.Join(folder, RosterName), server)
}

// rosters imports each list of the folder, in the order of the names. Files that begin
// with a dot or are text for people (README) are no lists.
func (h Host) rosters(ctx context.Context, tenant, folder string, server Server) ([]Problem, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", folder, err)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	var problems []Problem
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || !strings.EqualFold(filepath.Ext(name), ".csv") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return problems, fmt.Errorf("read %s: %w", name, err)
		}
		if info.Size() > maxRosterBytes {
			problems = append(problems, problem(0, RosterName+"/"+name+": too long for a list of people.", RosterName+"/"+name+":太长,不像名单。"))
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err == nil {
			err = server.ImportRoster(ctx, tenant, name, data)
		}
		var e *im.Error
		switch {
		case err == nil:
		case errors.As(err, &e) && (e.Kind == im.Invalid || e.Kind == im.BadParams || e.Kind == im.TooLarge):
			problems = append(problems, problem(0, RosterName+"/"+name+": "+e.Message, RosterName+"/"+name+":名单没有导入。"+e.Message))
		default:
			return problems, fmt.Errorf("import %s: %w", name, err)
		}
	}
	return problems, nil
}

func exists(err error) bool { return im.KindOf(err) == im.Exists }
