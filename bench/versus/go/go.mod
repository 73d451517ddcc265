module versus

go 1.19
