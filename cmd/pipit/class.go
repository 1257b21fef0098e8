package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

func (t *tool) classCmd() *cobra.Command {
	c := &cobra.Command{Use: "class", Short: "Classes and teams: each has a group for all and a board where its teachers post", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.classList(), t.classAdd(), t.classChange(), t.classArchive(true), t.classArchive(false), t.classEndTerm())
	return c
}

func (t *tool) classList() *cobra.Command {
	var tenant string
	var all bool
	c := &cobra.Command{Use: "list", Short: "List classes", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			list, err := box.Classes(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(c apiclient.Class) bool { return c.Archived })
			}
			return t.answer(list, func() {
				rows := make([][]string, 0, len(list))
				for _, c := range list {
					state := "active"
					if c.Archived {
						state = "archived"
					}
					term := c.Term
					if c.Ends != "" {
						term = strings.TrimSpace(term + " to " + c.Ends)
					}
					rows = append(rows, []string{c.Name, term, strconv.Itoa(len(c.Teachers)), strconv.Itoa(len(c.Students)), state, c.ID})
				}
				t.table([]string{"CLASS", "TERM", "TEACHERS", "STUDENTS", "STATE", "ID"}, rows)
			})
		}}
	tenantFlag(c, &tenant)
	c.Flags().BoolVar(&all, "all", false, "archived ones too")
	return c
}

func (t *tool) classAdd() *cobra.Command {
	var tenant, term, teachers, students string
	c := &cobra.Command{Use: "add NAME", Short: "Add a class, with its group and its board", Args: exactArgs("NAME"),
		Example: "  pipit class add 5a --term 2026/27 --teachers tom --students ann,ben",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			k, err := box.AddClass(cmd.Context(), tenant, apiclient.NewClass{Name: args[0], Term: term, Teachers: listed(teachers), Students: listed(students)})
			if err != nil {
				return err
			}
			return t.answer(k, func() {
				fmt.Fprintf(t.out, "Added the class %s with %s and %s.\n", printable(k.Name), plural(len(k.Teachers), "teacher", "teachers"), plural(len(k.Students), "student", "students"))
			})
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&term, "term", "", "`TERM` that it belongs to, 2026/27 for example")
	c.Flags().StringVar(&teachers, "teachers", "", "user `NAMES`, with commas between them")
	c.Flags().StringVar(&students, "students", "", "user `NAMES`, with commas between them")
	return c
}

func listed(names string) []string {
	return strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
}

// theClass finds a class by id, or by name among those that are not archived.
func theClass(cmd *cobra.Command, box *apiclient.Client, tenant, name string) (apiclient.Class, error) {
	list, err := box.Classes(cmd.Context(), tenant)
	if err != nil {
		return apiclient.Class{}, err
	}
	var found []apiclient.Class
	for _, c := range list {
		if c.ID == name {
			return c, nil
		}
		if strings.EqualFold(c.Name, name) && !c.Archived {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return apiclient.Class{}, im.E(im.NotFound, "There is no class %q. `pipit class list --all` shows those there are; archived ones are named by ID.", name)
	case 1:
		return found[0], nil
	}
	return apiclient.Class{}, usageError{fmt.Errorf("there are %d classes %q: name one by its ID (pipit class list)", len(found), name)}
}

func (t *tool) classChange() *cobra.Command {
	var tenant, name, term, teachers, students string
	c := &cobra.Command{Use: "change CLASS", Short: "Change a class's name, term or people; its conversations follow", Args: exactArgs("CLASS"),
		Example: "  pipit class change 5a --students ann,ben,cid",
		RunE: func(cmd *cobra.Command, args []string) error {
			var ch apiclient.ClassChange
			for flag, set := range map[string]func(){
				"name": func() { ch.Name = &name }, "term": func() { ch.Term = &term },
				"teachers": func() { l := listed(teachers); ch.Teachers = &l }, "students": func() { l := listed(students); ch.Students = &l },
			} {
				if cmd.Flags().Changed(flag) {
					set()
				}
			}
			if ch.Name == nil && ch.Term == nil && ch.Teachers == nil && ch.Students == nil {
				return usageError{errors.New("say what to change: --name, --term, --teachers or --students")}
			}
			return t.changeClass(cmd, &tenant, args[0], ch, "Changed the class")
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&name, "name", "", "its new `NAME`")
	c.Flags().StringVar(&term, "term", "", "its `TERM`")
	c.Flags().StringVar(&teachers, "teachers", "", "all of its teachers: user `NAMES`, with commas between them")
	c.Flags().StringVar(&students, "students", "", "all of its students: user `NAMES`, with commas between them")
	return c
}

func (t *tool) classArchive(on bool) *cobra.Command {
	var tenant string
	use, short, done := "archive CLASS", "End a class: its conversations can be read, and nobody writes any more", "Archived the class"
	if !on {
		use, short, done = "reopen CLASS", "Let an archived class go on after all", "Reopened the class"
	}
	c := &cobra.Command{Use: use, Short: short, Args: exactArgs("CLASS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.changeClass(cmd, &tenant, args[0], apiclient.ClassChange{Archived: &on}, done)
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) changeClass(cmd *cobra.Command, tenant *string, name string, ch apiclient.ClassChange, done string) error {
	box, err := t.box()
	if err != nil {
		return err
	}
	if *tenant, err = theTenant(cmd, box, *tenant); err != nil {
		return err
	}
	k, err := theClass(cmd, box, *tenant, name)
	if err != nil {
		return err
	}
	if k, err = box.ChangeClass(cmd.Context(), *tenant, k.ID, ch); err != nil {
		return err
	}
	return t.answer(k, func() {
		fmt.Fprintf(t.out, "%s %s: %s, %s.\n", done, printable(k.Name), plural(len(k.Teachers), "teacher", "teachers"), plural(len(k.Students), "student", "students"))
	})
}

func (t *tool) classEndTerm() *cobra.Command {
	var tenant string
	var every bool
	c := &cobra.Command{Use: "end-term [TERM]", Short: "Archive all classes of a term; the next roster begins new ones, which are empty", Args: cobra.MaximumNArgs(1),
		Long: "Archive all classes of a term: what was written can still be read, and nobody writes any more. The next roster begins new classes, which are empty.\n" +
			"Where OneRoster said which day is the term's last, its classes end by themselves within an hour of the next day, if the clock is set.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !every {
				return usageError{errors.New("name the term, or say --all for every class")}
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			n, err := box.EndTerm(cmd.Context(), tenant, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return t.answer(map[string]int{"archived": n}, func() { fmt.Fprintf(t.out, "Archived %s.\n", plural(n, "class", "classes")) })
		}}
	tenantFlag(c, &tenant)
	c.Flags().BoolVar(&every, "all", false, "every class, whatever its term")
	return c
}
