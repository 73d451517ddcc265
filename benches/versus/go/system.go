package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files beside the connections.
const spareFiles = 100

// CPU time of this process, of all its threads.
func cpuTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// Whether so many sockets may be open.
func enoughFiles(sockets int) error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if uint64(files.Cur) < uint64(sockets+spareFiles) {
		return unsupported{fmt.Sprintf("%d sockets are more than the %d files allowed", sockets, files.Cur)}
	}
	return nil
}

// Memory of this process that is resident now.
func residentBytes() (float64, error) {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, unsupported{"resident memory is not told here"}
	}
	kibibytes, err := numberAfter(string(text), "Rss:")
	return float64(kibibytes) * 1024, err
}

// How often each thread has gone to sleep so far: as often it is woken.
func wakeUpsSoFar() (map[string]uint64, error) {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return nil, unsupported{"the number of wake-ups is not told here"}
	}
	sleeps := make(map[string]uint64)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			// A thread that has ended meanwhile.
			continue
		}
		if sleeps[file], err = numberAfter(string(text), "voluntary_ctxt_switches:"); err != nil {
			return nil, err
		}
	}
	return sleeps, nil
}

func numberAfter(text, name string) (uint64, error) {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, name) {
			return strconv.ParseUint(strings.Fields(line[len(name):])[0], 10, 64)
		}
	}
	return 0, errors.New("nothing is told of " + name)
}
