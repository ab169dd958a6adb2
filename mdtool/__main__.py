from mdtool.cli import program

program()
